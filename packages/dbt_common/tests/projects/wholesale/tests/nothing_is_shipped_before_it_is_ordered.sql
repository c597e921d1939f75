select shipments.shipment_id
from {{ ref('fct_shipments') }} as shipments
inner join {{ ref('fct_orders') }} as orders
    on shipments.order_id = orders.order_id
where shipments.shipped_at < orders.ordered_at
