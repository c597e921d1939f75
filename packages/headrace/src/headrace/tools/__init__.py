"""git, uv and dbt as commands, and what they print."""
