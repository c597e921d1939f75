select
    store_id,
    cast(occurred_at as date) as day,
    count(*) as refunds,
    cast(sum(amount_cents) as bigint) as refunded_cents
from {{ ref('refunds') }}
where {{ in_window('occurred_at') }}
group by store_id, cast(occurred_at as date)
