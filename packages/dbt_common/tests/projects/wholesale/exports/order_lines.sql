select
    'l' || i || '-' || j as line_id,
    'o' || i as order_id,
    'p' || (i * 5 + j) % 12 as product_id,
    1 + (i + j) % 9 as quantity,
    100 + (i * 31 + j * 17) % 900 as unit_price_cents
from range(330) as t (i), range(3) as u (j)
where j <= i % 3
