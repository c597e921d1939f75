-- A shift is six hours: partitions by cron.
{{ config(
    materialized='incremental',
    incremental_strategy='delete_window+insert',
    event_time='shift_begins_at',
    meta={'dagster': {'partitions': {'grain': '0 */6 * * *', 'start': '2024-03-01'}}},
) }}

select
    time_bucket(interval 6 hour, shipped_at) as shift_begins_at,
    count(*) as shipments,
    cast(sum(weight_grams) as bigint) as weight_grams
from {{ ref('fct_shipments') }}
where {{ in_window('shipped_at') }}
group by time_bucket(interval 6 hour, shipped_at)
