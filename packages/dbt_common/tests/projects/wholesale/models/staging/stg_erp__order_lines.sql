select
    line_id,
    order_id,
    product_id,
    quantity,
    unit_price_cents
from {{ source('erp', 'order_lines') }}
