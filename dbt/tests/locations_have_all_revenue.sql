-- An order of a store that is not in the export would be missing from the owner's sums.
{{ config(meta={'dagster': {'ref': {'name': 'locations'}}}) }}

with

revenue_of_orders as (
    select
        store_id,
        count(*) as orders,
        sum(order_total_cents) as revenue_cents
    from {{ ref('orders') }}
    group by store_id
)

select
    revenue_of_orders.store_id,
    revenue_of_orders.orders,
    revenue_of_orders.revenue_cents
from revenue_of_orders
left join {{ ref('locations') }} as locations
    on revenue_of_orders.store_id = locations.store_id
where revenue_of_orders.revenue_cents is distinct from locations.revenue_cents
