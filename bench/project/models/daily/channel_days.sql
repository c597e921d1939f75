select
    channel,
    cast(ordered_at as date) as day,
    count(*) as orders,
    cast(sum(amount_cents) as bigint) as revenue_cents,
    avg(lines) as average_lines
from {{ ref('orders') }}
where {{ in_window('ordered_at') }}
group by channel, cast(ordered_at as date)
