select
    invoice_id,
    order_id,
    issued_at,
    paid_at,
    amount_cents
from {{ source('erp', 'invoices') }}
