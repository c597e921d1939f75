-- dbt narrows `orders` to the batch by its event_time, so nothing here names the day.
{{ config(event_time='ordered_on', batch_size='day') }}

select
    customer_id,
    cast(ordered_at as date) as ordered_on,
    count(*) as orders,
    count(distinct store_id) as stores,
    cast(sum(items) as bigint) as items,
    cast(sum(order_total_cents) as bigint) as revenue_cents
from {{ ref('orders') }}
group by customer_id, cast(ordered_at as date)
