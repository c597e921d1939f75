{{ config(meta={'dagster': {'partitioned_upstreams': 'last'}}) }}

select
    warehouse_id,
    day,
    value_cents
from {{ ref('daily_sales') }}
qualify day = max(day) over ()
