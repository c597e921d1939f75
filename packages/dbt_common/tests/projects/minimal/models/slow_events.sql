-- The hook is slow, in the transaction of the rows that the model has just replaced.
{{ config(
    materialized='incremental',
    incremental_strategy='delete_window+insert',
    event_time='occurred_at',
    meta={'dagster': {'partitions': {'grain': 'day', 'start': '2024-01-01'}}},
    post_hook="select count(*) filter (where hash(a.i, b.i) % 7 = 0)
        from (select unnest(range(loops)) as i from {{ source('raw', 'delays') }}) as a
        cross join (select unnest(range(loops)) as i from {{ source('raw', 'delays') }}) as b",
) }}

select
    id,
    occurred_at
from {{ ref('stg_events') }}
where {{ in_window('occurred_at') }}
