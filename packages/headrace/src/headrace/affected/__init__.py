"""What a change affects: members, locations, dbt nodes, assets."""
