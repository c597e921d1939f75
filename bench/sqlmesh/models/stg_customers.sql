MODEL (name shop.stg_customers, kind VIEW);

SELECT id AS customer_id, TRIM(name) AS customer_name
FROM READ_PARQUET(@lake || '/raw/customers/data.parquet')
