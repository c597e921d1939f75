MODEL (name shop.stg_orders, kind VIEW);

SELECT
  id AS order_id,
  store_id,
  customer AS customer_id,
  ordered_at,
  subtotal AS subtotal_cents,
  tax_paid AS tax_paid_cents,
  order_total AS order_total_cents,
  day AS loaded_day
FROM READ_PARQUET(@lake || '/raw/orders/day=*/data.parquet', hive_partitioning = TRUE)
