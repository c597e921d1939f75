{{ config(event_time='read_at') }}

select
    sensor_id,
    warehouse_id,
    read_at,
    celsius
from {{ source('iot', 'readings') }}
