select
    id as supply_id,
    sku,
    trim(name) as supply_name,
    cost as cost_cents,
    perishable as is_perishable
from {{ source('raw', 'supplies') }}
