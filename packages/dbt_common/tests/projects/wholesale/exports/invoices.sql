select
    'v' || i as invoice_id,
    'o' || i as order_id,
    timestamp '2024-03-02' + to_minutes(i * 144) as issued_at,
    case when i % 4 > 0 then timestamp '2024-03-09' + to_minutes(i * 144) end as paid_at,
    1000 + i * 77 % 5000 as amount_cents
from range(330) as t (i)
