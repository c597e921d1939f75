MODEL (
  name shop.store_months,
  kind INCREMENTAL_BY_TIME_RANGE (time_column month),
  cron '@monthly',
  audits (NOT_NULL(columns := (store_id)))
);

SELECT
  store_id,
  DATE_TRUNC('MONTH', ordered_at)::DATE AS month,
  COUNT(*) AS orders,
  COUNT(DISTINCT customer_id) AS customers,
  SUM(items)::BIGINT AS items,
  SUM(order_total_cents)::BIGINT AS revenue_cents,
  SUM(tax_paid_cents)::BIGINT AS tax_paid_cents,
  SUM(supply_cost_cents)::BIGINT AS supply_cost_cents,
  (SUM(subtotal_cents) - SUM(supply_cost_cents))::BIGINT AS gross_margin_cents
FROM shop.orders
WHERE ordered_at BETWEEN @start_ts AND @end_ts
GROUP BY store_id, DATE_TRUNC('MONTH', ordered_at)
