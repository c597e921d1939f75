"""The processes and the storage of a Dagster on this machine."""
