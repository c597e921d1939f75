-- A warning: an order of a customer who is not in the export yet counts for its store all the same.
{{ config(severity='warn', meta={'dagster': {'ref': {'name': 'customers'}}}) }}

select
    orders.customer_id,
    count(*) as orders,
    sum(orders.order_total_cents) as revenue_cents
from {{ ref('orders') }} as orders
left join {{ ref('customers') }} as customers
    on orders.customer_id = customers.customer_id
where customers.customer_id is null
group by orders.customer_id
