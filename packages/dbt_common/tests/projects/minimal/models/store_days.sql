{{ config(
    materialized='incremental',
    incremental_strategy='microbatch',
    event_time='day',
    batch_size='day',
    begin='2024-01-01',
    lookback=0,
) }}

select
    store,
    cast(occurred_at as date) as day,
    count(*) as events,
    cast(sum(amount) as bigint) as amount
from {{ ref('events_daily') }}
group by store, cast(occurred_at as date)
