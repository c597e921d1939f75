{{ config(event_time='ordered_at') }}

select
    line_id,
    order_id,
    warehouse_id,
    ordered_at,
    category_id,
    product_id,
    quantity,
    value_cents
from {{ ref('int_line_values') }}
where {{ in_window('ordered_at') }}
