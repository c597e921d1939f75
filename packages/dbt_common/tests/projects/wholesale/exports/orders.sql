select
    'o' || i as order_id,
    'k' || i * 7 % 40 as customer_id,
    'w' || 1 + i % 3 as warehouse_id,
    timestamp '2024-03-01' + to_minutes(i * 144) as ordered_at
from range(330) as t (i)
