-- Subtotal and tax make the total, and no amount is negative.
select
    order_id,
    subtotal_cents,
    tax_paid_cents,
    order_total_cents
from {{ ref('orders') }}
where
    {{ in_window_or_all('ordered_at') }}
    and (
        subtotal_cents + tax_paid_cents != order_total_cents
        or least(subtotal_cents, tax_paid_cents) < 0
    )
