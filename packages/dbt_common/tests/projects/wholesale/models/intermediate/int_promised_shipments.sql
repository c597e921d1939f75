select
    shipments.shipment_id,
    shipments.order_id,
    shipments.carrier_id,
    shipments.shipped_at,
    shipments.delivered_at,
    shipments.weight_grams,
    shipments.shipped_at + to_hours(carriers.promised_hours) as promised_at
from {{ ref('stg_tms__shipments') }} as shipments
inner join {{ ref('carriers') }} as carriers
    on shipments.carrier_id = carriers.carrier_id
where {{ in_window('shipments.shipped_at') }}
