select
    'p' || i as product_id,
    'Product ' || i as product_name,
    ['dairy', 'fruit', 'dry'][1 + i % 3] as category_id
from range(12) as t (i)
