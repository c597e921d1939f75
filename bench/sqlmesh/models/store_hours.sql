MODEL (
  name shop.store_hours,
  kind INCREMENTAL_BY_TIME_RANGE (time_column hour),
  cron '@hourly',
  audits (NOT_NULL(columns := (store_id)))
);

SELECT
  store_id,
  DATE_TRUNC('HOUR', ordered_at)::TIMESTAMP AS hour,
  COUNT(*) AS orders,
  SUM(items)::BIGINT AS items,
  SUM(order_total_cents)::BIGINT AS revenue_cents
FROM shop.orders
WHERE ordered_at BETWEEN @start_ts AND @end_ts
GROUP BY store_id, DATE_TRUNC('HOUR', ordered_at)
