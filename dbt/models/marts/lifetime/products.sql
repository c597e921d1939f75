with

sales as (
    select
        sku,
        count(*) as units_sold,
        cast(sum(price_cents) as bigint) as revenue_cents,
        cast(sum(price_cents - supply_cost_cents) as bigint) as gross_margin_cents,
        min(ordered_at) as first_sold_at,
        max(ordered_at) as last_sold_at
    from {{ ref('order_items') }}
    group by sku
)

select
    products.sku,
    products.product_name,
    products.product_type,
    products.price_cents,
    products.supply_cost_cents,
    coalesce(sales.units_sold, 0) as units_sold,
    coalesce(sales.revenue_cents, 0) as revenue_cents,
    coalesce(sales.gross_margin_cents, 0) as gross_margin_cents,
    sales.first_sold_at,
    sales.last_sold_at
from {{ ref('int_product_catalog') }} as products
left join sales
    on products.sku = sales.sku
