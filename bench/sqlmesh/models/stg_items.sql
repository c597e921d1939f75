MODEL (name shop.stg_items, kind VIEW);

SELECT id AS item_id, order_id, sku, day AS loaded_day
FROM READ_PARQUET(@lake || '/raw/items/day=*/data.parquet', hive_partitioning = TRUE)
