select
    store_id,
    cast(ordered_at as date) as day,
    count(*) as orders,
    count(distinct customer_id) as customers,
    cast(sum(amount_cents) as bigint) as revenue_cents
from {{ ref('orders') }}
where {{ in_window('ordered_at') }}
group by store_id, cast(ordered_at as date)
