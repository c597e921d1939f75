select
    shipment_id,
    order_id,
    carrier_id,
    shipped_at,
    delivered_at,
    weight_grams
from {{ source('tms', 'shipments') }}
