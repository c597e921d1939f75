"""What a change makes of a dbt project's models: built beside production, compared with it, and dropped."""
