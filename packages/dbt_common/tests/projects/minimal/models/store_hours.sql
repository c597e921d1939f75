{{ config(
    materialized='incremental',
    incremental_strategy='delete_window+insert',
    event_time='hour',
    meta={'dagster': {'partitions': {'grain': 'hour', 'start': '2024-01-01'}}},
) }}

select
    store,
    date_trunc('hour', occurred_at) as hour,
    count(*) as events
from {{ ref('events_daily') }}
where {{ in_window('occurred_at') }}
group by store, date_trunc('hour', occurred_at)
