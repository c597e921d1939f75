select
    id as order_id,
    store_id,
    ordered_at,
    order_total as order_total_cents,
    day as loaded_day
from {{ source('raw', 'orders') }}
