{{ config(
    materialized='incremental',
    incremental_strategy='delete_window+insert',
    event_time='month',
    meta={'dagster': {'partitions': {'grain': 'month', 'start': '2024-03-01'}}},
) }}

select
    orders.warehouse_id,
    date_trunc('month', shipments.shipped_at)::timestamp as month,
    count(*) as shipments,
    count(*) filter (where shipments.is_late) as late_shipments
from {{ ref('fct_shipments') }} as shipments
inner join {{ ref('fct_orders') }} as orders
    on shipments.order_id = orders.order_id
where {{ in_window('shipments.shipped_at') }}
group by orders.warehouse_id, date_trunc('month', shipments.shipped_at)
