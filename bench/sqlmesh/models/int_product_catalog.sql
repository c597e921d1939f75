MODEL (name shop.int_product_catalog, kind VIEW);

WITH supply_costs AS (
  SELECT sku, SUM(cost_cents)::BIGINT AS supply_cost_cents FROM shop.stg_supplies GROUP BY sku
)
SELECT
  products.sku,
  products.product_name,
  products.product_type,
  products.price_cents,
  COALESCE(product_types.is_food, FALSE) AS is_food,
  COALESCE(product_types.is_drink, FALSE) AS is_drink,
  COALESCE(supply_costs.supply_cost_cents, 0) AS supply_cost_cents
FROM shop.stg_products AS products
LEFT JOIN shop.product_types AS product_types ON products.product_type = product_types.product_type
LEFT JOIN supply_costs ON products.sku = supply_costs.sku
