{{ config(event_time='ordered_at') }}

select
    orders.order_id,
    orders.customer_id,
    orders.warehouse_id,
    orders.ordered_at,
    order_values.lines,
    order_values.value_cents
from {{ ref('stg_erp__orders') }} as orders
left join {{ ref('int_order_values') }} as order_values
    on orders.order_id = order_values.order_id
where {{ in_window('orders.ordered_at') }}
