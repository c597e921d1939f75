"""dbt in the run's own process."""
