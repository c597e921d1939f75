select
    sku,
    cast(occurred_at as date) as day,
    cast(sum(quantity) as bigint) as quantity,
    cast(sum(amount_cents) as bigint) as revenue_cents
from {{ ref('sales') }}
where {{ in_window('occurred_at') }}
group by sku, cast(occurred_at as date)
