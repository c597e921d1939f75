select
    id as order_id,
    store_id,
    customer as customer_id,
    ordered_at,
    subtotal as subtotal_cents,
    tax_paid as tax_paid_cents,
    order_total as order_total_cents,
    day as loaded_day
from {{ source('raw', 'orders') }}
