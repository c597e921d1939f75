select
    products.product_id,
    products.product_name,
    categories.category,
    categories.is_chilled
from {{ ref('stg_erp__products') }} as products
left join {{ ref('product_categories') }} as categories
    on products.category_id = categories.category_id
