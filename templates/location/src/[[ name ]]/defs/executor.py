"""How runs execute; alone in its module, since `@dg.definitions` hides a module's other assets."""

import dagster as dg


@dg.definitions
def executor() -> dg.Definitions:
    """Run the steps in the run's own process: starting one costs more than loading a table."""
    return dg.Definitions(executor=dg.in_process_executor)
