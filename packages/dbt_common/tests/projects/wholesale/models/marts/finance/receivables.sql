select
    invoices.invoice_id,
    orders.customer_id,
    invoices.amount_cents
from {{ ref('fct_invoices') }} as invoices
inner join {{ ref('fct_orders') }} as orders
    on invoices.order_id = orders.order_id
where invoices.paid_at is null
