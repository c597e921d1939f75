{{ config(
    materialized='incremental',
    incremental_strategy='delete_window+insert',
    event_time='occurred_at',
    meta={'dagster': {'partitions': {'grain': 'day', 'start': '2024-01-01'}}},
) }}

select
    id,
    occurred_at
from {{ ref('stg_events') }}
where {{ in_window('occurred_at') }} and amount >= 100
