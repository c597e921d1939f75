MODEL (name shop.stg_stores, kind VIEW);

SELECT id AS store_id, TRIM(name) AS store_name, opened_at, tax_rate
FROM READ_PARQUET(@lake || '/raw/stores/data.parquet')
