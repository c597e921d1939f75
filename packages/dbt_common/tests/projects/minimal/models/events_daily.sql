{{ config(
    materialized='incremental',
    incremental_strategy='delete_window+insert',
    event_time='occurred_at',
    meta={'dagster': {'partitions': {'grain': 'day', 'start': '2024-01-01'}}},
) }}

-- in_window() of the ephemeral model below
select
    id,
    occurred_at,
    store,
    amount
from {{ ref('events_in_window') }}
