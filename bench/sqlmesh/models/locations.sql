MODEL (name shop.locations, kind FULL, audits (UNIQUE_VALUES(columns := (store_id))));

WITH sales AS (
  SELECT
    store_id,
    COUNT(*) AS orders,
    COUNT(DISTINCT customer_id) AS customers,
    SUM(order_total_cents)::BIGINT AS revenue_cents,
    MIN(ordered_at) AS first_ordered_at,
    MAX(ordered_at) AS last_ordered_at
  FROM shop.orders
  GROUP BY store_id
)
SELECT
  stores.store_id,
  stores.store_name,
  stores.opened_at,
  stores.tax_rate,
  COALESCE(sales.orders, 0) AS orders,
  COALESCE(sales.customers, 0) AS customers,
  COALESCE(sales.revenue_cents, 0) AS revenue_cents,
  sales.first_ordered_at,
  sales.last_ordered_at
FROM shop.stg_stores AS stores
LEFT JOIN sales ON stores.store_id = sales.store_id
