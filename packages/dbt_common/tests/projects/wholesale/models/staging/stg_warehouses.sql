select
    warehouse_id,
    city,
    country
from {{ ref('warehouses') }}
