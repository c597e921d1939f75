select
    sku,
    trim(name) as product_name,
    type as product_type,
    price as price_cents,
    description as product_description
from {{ source('raw', 'products') }}
