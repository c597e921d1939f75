MODEL (
  name shop.orders,
  kind INCREMENTAL_BY_TIME_RANGE (time_column ordered_at),
  audits (NOT_NULL(columns := (order_id, store_id)), UNIQUE_VALUES(columns := (order_id)))
);

WITH baskets AS (
  SELECT
    order_id,
    COUNT(*) AS items,
    COUNT(*) FILTER(WHERE is_food) AS food_items,
    COUNT(*) FILTER(WHERE is_drink) AS drink_items,
    SUM(supply_cost_cents)::BIGINT AS supply_cost_cents
  FROM shop.order_items
  WHERE ordered_at BETWEEN @start_ts AND @end_ts
  GROUP BY order_id
)
SELECT
  orders.order_id,
  orders.store_id,
  orders.customer_id,
  orders.ordered_at,
  orders.subtotal_cents,
  orders.tax_paid_cents,
  orders.order_total_cents,
  COALESCE(baskets.items, 0) AS items,
  COALESCE(baskets.food_items, 0) AS food_items,
  COALESCE(baskets.drink_items, 0) AS drink_items,
  COALESCE(baskets.supply_cost_cents, 0) AS supply_cost_cents
FROM shop.stg_orders AS orders
LEFT JOIN baskets ON orders.order_id = baskets.order_id
WHERE
  orders.loaded_day BETWEEN @start_date AND @end_date
  AND orders.ordered_at BETWEEN @start_ts AND @end_ts
