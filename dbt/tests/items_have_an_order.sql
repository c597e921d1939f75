-- order_items takes an item by its order, so an item without one on its day would be lost without a word.
{{ config(meta={'dagster': {'ref': {'name': 'stg_items'}}}) }}

select
    items.item_id,
    items.order_id,
    items.loaded_day
from {{ ref('stg_items') }} as items
left join {{ ref('stg_orders') }} as orders
    on
        items.loaded_day = orders.loaded_day
        and items.order_id = orders.order_id
where orders.order_id is null
