select
    customer_id,
    cast(ordered_at as date) as day,
    count(*) as orders,
    min(ordered_at) as first_order_at,
    cast(sum(amount_cents) as bigint) as revenue_cents
from {{ ref('orders') }}
where {{ in_window('ordered_at') }}
group by customer_id, cast(ordered_at as date)
