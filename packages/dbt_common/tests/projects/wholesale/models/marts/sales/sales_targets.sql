{{ config(
    materialized='incremental',
    incremental_strategy='delete_window+insert',
    event_time='month',
    meta={'dagster': {'partitions': {'grain': 'month', 'start': '2024-03-01'}}},
) }}

select
    warehouse_id,
    date_trunc('month', day)::timestamp as month,
    cast(sum(value_cents) // count(*) as bigint) as target_cents
from {{ ref('daily_sales') }}
where {{ in_window('day') }}
group by warehouse_id, date_trunc('month', day)
