"""The address that installed platform releases of every version answer to: `python -m headrace.storage`."""

from headrace.local_dagster.storage import create_tables_of_home

if __name__ == "__main__":
    create_tables_of_home()
