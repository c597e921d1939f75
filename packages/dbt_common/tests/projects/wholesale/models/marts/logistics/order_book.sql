{{ config(alias='Order Book') }}

select
    orders.order_id,
    orders.ordered_at,
    warehouses.city,
    shipments.shipped_at,
    invoices.issued_at
from {{ ref('fct_orders') }} as orders
left join {{ ref('dim_warehouses') }} as warehouses
    on orders.warehouse_id = warehouses.warehouse_id
left join {{ ref('fct_shipments') }} as shipments
    on orders.order_id = shipments.order_id
left join {{ ref('fct_invoices') }} as invoices
    on orders.order_id = invoices.order_id
