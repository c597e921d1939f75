{{ config(
    materialized='incremental',
    incremental_strategy='delete_window+insert',
    event_time='shipped_at',
    meta={'dagster': {'partitions': {'grain': 'day', 'start': '2024-03-01'}}},
) }}

select
    shipment_id,
    order_id,
    carrier_id,
    shipped_at,
    delivered_at,
    weight_grams,
    delivered_at > promised_at as is_late
from {{ ref('int_promised_shipments') }}
where {{ in_window('shipped_at') }}
