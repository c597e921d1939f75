"""What a build writes into Dagster's history for the sensor that heals: names that both sides know."""

FULL_REFRESH = "__full_refresh"
"""The end of the name of a job that rebuilds a group."""

READ_UP_TO = "dagster_dbt_common/read_up_to"
"""The tag of a materialization that says the newest storage id when its build began."""
