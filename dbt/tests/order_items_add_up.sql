-- A warning: the price list has only the present prices, so a rebuilt day may differ from what was paid then.
{{ config(severity='warn', meta={'dagster': {'ref': {'name': 'orders'}}}) }}

with

baskets as (
    select
        order_id,
        sum(price_cents) as price_cents
    from {{ ref('order_items') }}
    where {{ in_window_or_all('ordered_at') }}
    group by order_id
)

select
    orders.order_id,
    orders.subtotal_cents,
    baskets.price_cents
from {{ ref('orders') }} as orders
left join baskets
    on orders.order_id = baskets.order_id
where
    {{ in_window_or_all('orders.ordered_at') }}
    and orders.subtotal_cents != coalesce(baskets.price_cents, 0)
