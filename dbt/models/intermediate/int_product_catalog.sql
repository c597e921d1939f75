with

supply_costs as (
    select
        sku,
        cast(sum(cost_cents) as bigint) as supply_cost_cents
    from {{ ref('stg_supplies') }}
    group by sku
)

select
    products.sku,
    products.product_name,
    products.product_type,
    products.price_cents,
    coalesce(product_types.is_food, false) as is_food,
    coalesce(product_types.is_drink, false) as is_drink,
    coalesce(supply_costs.supply_cost_cents, 0) as supply_cost_cents
from {{ ref('stg_products') }} as products
left join {{ ref('product_types') }} as product_types
    on products.product_type = product_types.product_type
left join supply_costs
    on products.sku = supply_costs.sku
