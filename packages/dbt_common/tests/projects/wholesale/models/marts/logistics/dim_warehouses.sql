select
    warehouse_id,
    city,
    country
from {{ ref('stg_warehouses') }}
