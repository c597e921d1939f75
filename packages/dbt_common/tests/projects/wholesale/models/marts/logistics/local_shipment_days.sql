{{ config(
    materialized='incremental',
    incremental_strategy='delete_window+insert',
    event_time='day_begins_at',
    meta={'dagster': {'partitions': {'grain': 'day', 'start': '2024-03-01', 'timezone': 'Europe/Berlin'}}},
) }}

select
    {{ local_midnight('shipped_at', 'Europe/Berlin') }} as day_begins_at,
    local_day,
    count(*) as shipments,
    cast(sum(weight_grams) as bigint) as weight_grams
from {{ ref('local_shipments') }}
where {{ in_window('local_day', 'date') }}
group by all
