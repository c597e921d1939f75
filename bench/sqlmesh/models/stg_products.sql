MODEL (name shop.stg_products, kind VIEW);

SELECT
  sku,
  TRIM(name) AS product_name,
  type AS product_type,
  price AS price_cents,
  description AS product_description
FROM READ_PARQUET(@lake || '/raw/products/data.parquet')
