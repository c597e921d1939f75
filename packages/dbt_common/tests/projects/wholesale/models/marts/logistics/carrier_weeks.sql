{{ config(
    materialized='incremental',
    incremental_strategy='delete_window+insert',
    event_time='week',
    meta={'dagster': {'partitions': {'grain': 'week', 'start': '2024-03-01'}}},
) }}

select
    carrier_id,
    date_trunc('week', shipped_at)::timestamp as week,
    count(*) as shipments,
    count(*) filter (where is_late) as late_shipments
from {{ ref('fct_shipments') }}
where {{ in_window('shipped_at') }}
group by carrier_id, date_trunc('week', shipped_at)
