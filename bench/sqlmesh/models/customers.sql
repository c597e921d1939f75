MODEL (name shop.customers, kind FULL, audits (NOT_NULL(columns := (customer_id)), UNIQUE_VALUES(columns := (customer_id))));

WITH purchases AS (
  SELECT
    customer_id,
    COUNT(*) AS orders,
    SUM(order_total_cents)::BIGINT AS revenue_cents,
    MIN(ordered_at) AS first_ordered_at,
    MAX(ordered_at) AS last_ordered_at
  FROM shop.orders
  GROUP BY customer_id
), mentions AS (
  SELECT customer_id, COUNT(*) AS tweets FROM shop.stg_tweets GROUP BY customer_id
)
SELECT
  customers.customer_id,
  customers.customer_name,
  COALESCE(purchases.orders, 0) AS orders,
  COALESCE(purchases.revenue_cents, 0) AS revenue_cents,
  ROUND(purchases.revenue_cents / purchases.orders)::BIGINT AS average_order_cents,
  purchases.first_ordered_at,
  purchases.last_ordered_at,
  COALESCE(mentions.tweets, 0) AS tweets,
  CASE
    WHEN purchases.orders > 1 THEN 'returning'
    WHEN purchases.orders = 1 THEN 'new'
    ELSE 'prospect'
  END AS customer_type
FROM shop.stg_customers AS customers
LEFT JOIN purchases ON customers.customer_id = purchases.customer_id
LEFT JOIN mentions ON customers.customer_id = mentions.customer_id
