"""What the targets of dbt need before anybody builds: catalogs, schemas and DuckDB's extensions."""
