"""The dbt project on disk, and its manifest."""
