{{ config(event_time='occurred_at') }}

select
    events.event_id,
    events.order_id,
    events.store_id,
    stores.region,
    events.customer_id,
    events.sku,
    events.channel,
    events.quantity,
    events.quantity * events.price_cents as amount_cents,
    events.occurred_at
from {{ source('raw', 'events') }} as events
left join {{ ref('stores') }} as stores
    on events.store_id = stores.store_id
where
    events.kind = 'sale'
    and {{ in_window('events.day', 'date') }}
    and {{ in_window('events.occurred_at') }}
