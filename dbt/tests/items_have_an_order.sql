-- order_items takes an item by its order, so an item without one on its day would be lost without a word.
-- It runs with order_items and not with a staging view: a view may be built while one of the two raw tables
-- is being loaded.
-- depends_on: {{ ref('order_items') }}
{{ config(meta={'dagster': {'ref': {'name': 'order_items'}}}) }}

select
    items.item_id,
    items.order_id,
    items.loaded_day
from {{ ref('stg_items') }} as items
left join {{ ref('stg_orders') }} as orders
    on
        items.loaded_day = orders.loaded_day
        and items.order_id = orders.order_id
where
    orders.order_id is null
    and {{ in_window_or_all('items.loaded_day', 'date') }}
