{{ config(event_time='ordered_at') }}

select
    order_id,
    min(store_id) as store_id,
    min(customer_id) as customer_id,
    min(channel) as channel,
    min(occurred_at) as ordered_at,
    count(*) as lines,
    cast(sum(amount_cents) as bigint) as amount_cents
from {{ ref('sales') }}
where {{ in_window('occurred_at') }}
group by order_id
