{{ config(
    materialized='incremental',
    incremental_strategy='delete_window+insert',
    event_time='week',
) }}

select
    lines.product_id,
    products.category,
    date_trunc('week', lines.ordered_at)::timestamp as week,
    cast(sum(lines.quantity) as bigint) as quantity
from {{ ref('fct_order_lines') }} as lines
left join {{ ref('dim_products') }} as products
    on lines.product_id = products.product_id
where {{ in_window('lines.ordered_at') }}
group by lines.product_id, products.category, date_trunc('week', lines.ordered_at)
