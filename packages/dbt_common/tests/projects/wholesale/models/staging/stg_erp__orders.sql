select
    order_id,
    customer_id,
    warehouse_id,
    ordered_at
from {{ source('erp', 'orders') }}
