with

regions as (
    select
        day,
        cast(sum(orders) as bigint) as orders,
        cast(sum(net_cents) as bigint) as net_cents
    from {{ ref('region_days') }}
    where {{ in_window('day') }}
    group by day
),

baskets as (
    select
        cast(ordered_at as date) as day,
        avg(products) as average_products,
        max(dearest_cents) as dearest_cents
    from {{ ref('baskets') }}
    where {{ in_window('ordered_at') }}
    group by cast(ordered_at as date)
),

best as (
    select
        day,
        max_by(sku, revenue_cents) as best_sku
    from {{ ref('product_days') }}
    where {{ in_window('day') }}
    group by day
)

select
    regions.day,
    regions.orders,
    regions.net_cents,
    baskets.average_products,
    baskets.dearest_cents,
    best.best_sku
from regions
left join baskets
    on regions.day = baskets.day
left join best
    on regions.day = best.day
