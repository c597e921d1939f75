with

purchases as (
    select
        customer_id,
        count(*) as orders,
        cast(sum(order_total_cents) as bigint) as revenue_cents,
        min(ordered_at) as first_ordered_at,
        max(ordered_at) as last_ordered_at
    from {{ ref('orders') }}
    group by customer_id
),

mentions as (
    select
        customer_id,
        count(*) as tweets
    from {{ ref('stg_tweets') }}
    group by customer_id
)

select
    customers.customer_id,
    customers.customer_name,
    coalesce(purchases.orders, 0) as orders,
    coalesce(purchases.revenue_cents, 0) as revenue_cents,
    cast(round(1.0 * purchases.revenue_cents / purchases.orders) as bigint) as average_order_cents,
    purchases.first_ordered_at,
    purchases.last_ordered_at,
    coalesce(mentions.tweets, 0) as tweets,
    case
        when purchases.orders > 1 then 'returning'
        when purchases.orders = 1 then 'new'
        else 'prospect'
    end as customer_type
from {{ ref('stg_customers') }} as customers
left join purchases
    on customers.customer_id = purchases.customer_id
left join mentions
    on customers.customer_id = mentions.customer_id
