select
    'k' || i as customer_id,
    case i % 4 when 0 then 'Frère & "Søn" ' else 'Kiosk, ' end || i as customer_name,
    14 + i % 3 * 7 as payment_days,
    timestamp '2024-02-01' + to_days(i) as updated_at
from range(40) as t (i)
