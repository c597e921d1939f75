{{ config(event_time='occurred_at') }}

select
    event_id,
    order_id,
    store_id,
    sku,
    quantity * price_cents as amount_cents,
    occurred_at
from {{ source('raw', 'events') }}
where
    kind = 'refund'
    and {{ in_window('day', 'date') }}
    and {{ in_window('occurred_at') }}
