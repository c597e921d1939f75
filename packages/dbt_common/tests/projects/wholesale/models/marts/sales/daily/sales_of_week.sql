-- A late order of one day changes the six days after it.
{{ config(
    event_time='day',
    meta={'dagster': {'partitions': {'grain': 'day', 'start': '2024-03-01', 'lookback': 6}}},
) }}

select
    days.warehouse_id,
    days.day,
    cast(sum(earlier.value_cents) as bigint) as value_cents
from {{ ref('daily_sales') }} as days
inner join {{ ref('daily_sales') }} as earlier
    on
        days.warehouse_id = earlier.warehouse_id
        and earlier.day > days.day - interval 7 day
        and earlier.day <= days.day
where {{ in_window('days.day') }}
group by days.warehouse_id, days.day
