"""What a partition costs under Dagster: stock dagster-dbt, `dagster_dbt_common`, dbt alone and the SQL alone."""
