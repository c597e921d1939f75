{{ config(event_time='hour') }}

with

orders_in_window as (
    select
        store_id,
        items,
        order_total_cents,
        cast({{ dbt.date_trunc('hour', 'ordered_at') }} as timestamp) as hour
    from {{ ref('orders') }}
    where {{ in_window('ordered_at') }}
)

select
    store_id,
    hour,
    count(*) as orders,
    cast(sum(items) as bigint) as items,
    cast(sum(order_total_cents) as bigint) as revenue_cents
from orders_in_window
group by store_id, hour
