{{ config(event_time='day') }}

select
    segments.segment,
    date_trunc('day', orders.ordered_at)::timestamp as day,
    count(*) as orders,
    cast(sum(orders.value_cents) as bigint) as value_cents
from {{ ref('fct_orders') }} as orders
inner join {{ ref('customer_segments') }} as segments
    on orders.customer_id = segments.customer_id
where {{ in_window('orders.ordered_at') }}
group by segments.segment, date_trunc('day', orders.ordered_at)
