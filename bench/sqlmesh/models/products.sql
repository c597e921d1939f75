MODEL (name shop.products, kind FULL, audits (UNIQUE_VALUES(columns := (sku))));

WITH sales AS (
  SELECT
    sku,
    COUNT(*) AS units_sold,
    SUM(price_cents)::BIGINT AS revenue_cents,
    SUM(price_cents - supply_cost_cents)::BIGINT AS gross_margin_cents,
    MIN(ordered_at) AS first_sold_at,
    MAX(ordered_at) AS last_sold_at
  FROM shop.order_items
  GROUP BY sku
)
SELECT
  products.sku,
  products.product_name,
  products.product_type,
  products.price_cents,
  products.supply_cost_cents,
  COALESCE(sales.units_sold, 0) AS units_sold,
  COALESCE(sales.revenue_cents, 0) AS revenue_cents,
  COALESCE(sales.gross_margin_cents, 0) AS gross_margin_cents,
  sales.first_sold_at,
  sales.last_sold_at
FROM shop.int_product_catalog AS products
LEFT JOIN sales ON products.sku = sales.sku
