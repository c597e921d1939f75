select
    id as item_id,
    order_id,
    sku,
    day as loaded_day
from {{ source('raw', 'items') }}
