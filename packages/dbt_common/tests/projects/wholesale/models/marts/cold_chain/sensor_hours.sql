{{ config(
    materialized='incremental',
    incremental_strategy='microbatch',
    event_time='hour',
    batch_size='hour',
    begin='2024-03-30',
    lookback=0,
) }}

select
    warehouse_id,
    date_trunc('hour', read_at)::timestamp as hour,
    count(*) as readings,
    max(celsius) as max_celsius
from {{ ref('stg_iot__readings') }}
group by warehouse_id, date_trunc('hour', read_at)
