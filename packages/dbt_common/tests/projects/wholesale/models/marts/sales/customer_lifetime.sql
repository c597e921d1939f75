select
    customers.customer_id,
    count(orders.order_id) as orders,
    min(orders.ordered_at) as first_ordered_at,
    cast(coalesce(sum(orders.value_cents), 0) as bigint) as value_cents
from {{ ref('dim_customers') }} as customers
left join {{ ref('fct_orders') }} as orders
    on customers.customer_id = orders.customer_id
group by customers.customer_id
