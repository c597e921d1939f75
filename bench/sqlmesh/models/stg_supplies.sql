MODEL (name shop.stg_supplies, kind VIEW);

SELECT id AS supply_id, sku, TRIM(name) AS supply_name, cost AS cost_cents, perishable AS is_perishable
FROM READ_PARQUET(@lake || '/raw/supplies/data.parquet')
