select
    'x' || w as sensor_id,
    'w' || w as warehouse_id,
    timestamp '2024-03-30' + to_minutes(i * 20) as read_at,
    4.0 + (i // 7 * w) % 6 as celsius
from range(160) as t (i), range(1, 4) as u (w)
