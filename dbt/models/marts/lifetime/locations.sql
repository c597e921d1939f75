with

sales as (
    select
        store_id,
        count(*) as orders,
        count(distinct customer_id) as customers,
        cast(sum(order_total_cents) as bigint) as revenue_cents,
        min(ordered_at) as first_ordered_at,
        max(ordered_at) as last_ordered_at
    from {{ ref('orders') }}
    group by store_id
)

select
    stores.store_id,
    stores.store_name,
    stores.opened_at,
    stores.tax_rate,
    coalesce(sales.orders, 0) as orders,
    coalesce(sales.customers, 0) as customers,
    coalesce(sales.revenue_cents, 0) as revenue_cents,
    sales.first_ordered_at,
    sales.last_ordered_at
from {{ ref('stg_stores') }} as stores
left join sales
    on stores.store_id = sales.store_id
