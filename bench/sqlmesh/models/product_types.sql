MODEL (
  name shop.product_types,
  kind SEED (path '../../../dbt/seeds/product_types.csv'),
  columns (product_type TEXT, is_food BOOLEAN, is_drink BOOLEAN)
);
