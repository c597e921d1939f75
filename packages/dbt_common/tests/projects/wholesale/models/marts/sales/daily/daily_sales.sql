{{ config(event_time='day', alias='Sales by Day') }}

select
    warehouse_id,
    date_trunc('day', ordered_at)::timestamp as day,
    count(distinct order_id) as orders,
    cast(sum(value_cents) as bigint) as value_cents
from {{ ref('fct_order_lines') }}
where {{ in_window('ordered_at') }}
group by warehouse_id, date_trunc('day', ordered_at)
