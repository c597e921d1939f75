{{ config(event_time='ordered_at') }}

with

orders_in_window as (
    select
        order_id,
        store_id,
        ordered_at
    from {{ ref('stg_orders') }}
    where
        {{ in_window('loaded_day', 'date') }}
        and {{ in_window('ordered_at') }}
),

items_in_window as (
    select
        item_id,
        order_id,
        sku
    from {{ ref('stg_items') }}
    where {{ in_window('loaded_day', 'date') }}
)

select
    items.item_id,
    items.order_id,
    orders.store_id,
    items.sku,
    orders.ordered_at,
    products.product_type,
    coalesce(products.is_food, false) as is_food,
    coalesce(products.is_drink, false) as is_drink,
    products.price_cents,
    products.supply_cost_cents
from items_in_window as items
inner join orders_in_window as orders
    on items.order_id = orders.order_id
left join {{ ref('int_product_catalog') }} as products
    on items.sku = products.sku
