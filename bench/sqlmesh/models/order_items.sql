MODEL (
  name shop.order_items,
  kind INCREMENTAL_BY_TIME_RANGE (time_column ordered_at),
  audits (NOT_NULL(columns := (item_id, order_id)), UNIQUE_VALUES(columns := (item_id)))
);

SELECT
  items.item_id,
  items.order_id,
  orders.store_id,
  items.sku,
  orders.ordered_at,
  products.product_type,
  COALESCE(products.is_food, FALSE) AS is_food,
  COALESCE(products.is_drink, FALSE) AS is_drink,
  products.price_cents,
  products.supply_cost_cents
FROM shop.stg_items AS items
INNER JOIN shop.stg_orders AS orders ON items.order_id = orders.order_id
LEFT JOIN shop.int_product_catalog AS products ON items.sku = products.sku
WHERE
  items.loaded_day BETWEEN @start_date AND @end_date
  AND orders.loaded_day BETWEEN @start_date AND @end_date
  AND orders.ordered_at BETWEEN @start_ts AND @end_ts
