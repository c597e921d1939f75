select
    's' || i as shipment_id,
    'o' || i as order_id,
    'c' || 1 + i % 3 as carrier_id,
    timestamp '2024-03-01' + to_minutes(i * 144) + to_hours(i * 37 % 50) as shipped_at,
    timestamp '2024-03-01' + to_minutes(i * 144) + to_hours(i * 37 % 50 + i * 13 % 90) as delivered_at,
    500 + i * 97 % 4000 as weight_grams
from range(330) as t (i)
