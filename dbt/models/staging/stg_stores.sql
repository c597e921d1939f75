select
    id as store_id,
    trim(name) as store_name,
    opened_at,
    tax_rate
from {{ source('raw', 'stores') }}
