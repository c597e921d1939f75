{{ config(event_time='ordered_at') }}

with

orders_in_window as (
    select
        order_id,
        store_id,
        customer_id,
        ordered_at,
        subtotal_cents,
        tax_paid_cents,
        order_total_cents
    from {{ ref('stg_orders') }}
    where
        {{ in_window('loaded_day', 'date') }}
        and {{ in_window('ordered_at') }}
),

baskets as (
    select
        order_id,
        count(*) as items,
        count(*) filter (where is_food) as food_items,
        count(*) filter (where is_drink) as drink_items,
        cast(sum(supply_cost_cents) as bigint) as supply_cost_cents
    from {{ ref('order_items') }}
    where {{ in_window('ordered_at') }}
    group by order_id
)

select
    orders.order_id,
    orders.store_id,
    orders.customer_id,
    orders.ordered_at,
    orders.subtotal_cents,
    orders.tax_paid_cents,
    orders.order_total_cents,
    coalesce(baskets.items, 0) as items,
    coalesce(baskets.food_items, 0) as food_items,
    coalesce(baskets.drink_items, 0) as drink_items,
    coalesce(baskets.supply_cost_cents, 0) as supply_cost_cents
from orders_in_window as orders
left join baskets
    on orders.order_id = baskets.order_id
