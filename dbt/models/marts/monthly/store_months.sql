{{ config(event_time='month') }}

with

orders_in_window as (
    select
        store_id,
        customer_id,
        items,
        subtotal_cents,
        tax_paid_cents,
        order_total_cents,
        supply_cost_cents,
        cast({{ dbt.date_trunc('month', 'ordered_at') }} as date) as month
    from {{ ref('orders') }}
    where {{ in_window('ordered_at') }}
)

select
    store_id,
    month,
    count(*) as orders,
    count(distinct customer_id) as customers,
    cast(sum(items) as bigint) as items,
    cast(sum(order_total_cents) as bigint) as revenue_cents,
    cast(sum(tax_paid_cents) as bigint) as tax_paid_cents,
    cast(sum(supply_cost_cents) as bigint) as supply_cost_cents,
    cast(sum(subtotal_cents) - sum(supply_cost_cents) as bigint) as gross_margin_cents
from orders_in_window
group by store_id, month
