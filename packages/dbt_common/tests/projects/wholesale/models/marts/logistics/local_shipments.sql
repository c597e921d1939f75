{{ config(
    materialized='incremental',
    incremental_strategy='delete_window+insert',
    event_time='shipped_at',
    meta={'dagster': {'partitions': {'grain': 'day', 'start': '2024-03-01', 'timezone': 'Europe/Berlin'}}},
) }}

select
    shipment_id,
    shipped_at,
    cast((shipped_at at time zone 'UTC') at time zone 'Europe/Berlin' as date) as local_day,
    weight_grams
from {{ ref('stg_tms__shipments') }}
where {{ in_window('shipped_at') }}
