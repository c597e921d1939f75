{{ config(event_time='ordered_at') }}

with

lines as (
    select
        order_id,
        sku,
        occurred_at,
        amount_cents,
        row_number() over (partition by order_id order by amount_cents desc, event_id) as place
    from {{ ref('sales') }}
    where {{ in_window('occurred_at') }}
)

select
    order_id,
    min(occurred_at) as ordered_at,
    count(distinct sku) as products,
    max(sku) filter (where place = 1) as dearest_sku,
    max(amount_cents) as dearest_cents
from lines
group by order_id
