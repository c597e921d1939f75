select
    stores.store_id,
    stores.day,
    stores.orders,
    stores.revenue_cents,
    coalesce(refunds.refunded_cents, 0) as refunded_cents,
    stores.revenue_cents - coalesce(refunds.refunded_cents, 0) as net_cents
from {{ ref('store_days') }} as stores
left join {{ ref('refund_days') }} as refunds
    on stores.store_id = refunds.store_id and stores.day = refunds.day
where {{ in_window('stores.day') }}
