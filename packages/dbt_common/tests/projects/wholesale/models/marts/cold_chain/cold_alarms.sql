-- An alarm is an hour that is warm, as the hour before it was.
{{ config(
    materialized='incremental',
    incremental_strategy='delete_window+insert',
    event_time='hour',
    meta={'dagster': {'partitions': {'grain': 'hour', 'start': '2024-03-30', 'lookback': 1}}},
) }}

select
    hours.warehouse_id,
    hours.hour
from {{ ref('sensor_hours') }} as hours
inner join {{ ref('sensor_hours') }} as before
    on hours.warehouse_id = before.warehouse_id and hours.hour = before.hour + interval 1 hour
where {{ in_window('hours.hour') }} and hours.max_celsius > 8 and before.max_celsius > 8
