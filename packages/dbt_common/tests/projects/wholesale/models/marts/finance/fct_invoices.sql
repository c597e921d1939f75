select
    invoice_id,
    order_id,
    issued_at,
    paid_at,
    amount_cents
from {{ ref('stg_erp__invoices') }}
where {{ in_window('issued_at') }}
