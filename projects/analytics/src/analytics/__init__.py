"""Code location: the dbt models of the analytics team."""
