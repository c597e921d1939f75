select
    lines.line_id,
    lines.order_id,
    orders.warehouse_id,
    orders.ordered_at,
    products.category_id,
    lines.product_id,
    lines.quantity,
    lines.quantity * lines.unit_price_cents as value_cents
from {{ ref('stg_erp__order_lines') }} as lines
inner join {{ ref('stg_erp__orders') }} as orders
    on lines.order_id = orders.order_id
inner join {{ ref('stg_erp__products') }} as products
    on lines.product_id = products.product_id
