MODEL (
  name shop.customer_days,
  kind INCREMENTAL_BY_TIME_RANGE (time_column ordered_on),
  audits (NOT_NULL(columns := (customer_id)))
);

SELECT
  customer_id,
  ordered_at::DATE AS ordered_on,
  COUNT(*) AS orders,
  COUNT(DISTINCT store_id) AS stores,
  SUM(items)::BIGINT AS items,
  SUM(order_total_cents)::BIGINT AS revenue_cents
FROM shop.orders
WHERE ordered_at BETWEEN @start_ts AND @end_ts
GROUP BY customer_id, ordered_at::DATE
