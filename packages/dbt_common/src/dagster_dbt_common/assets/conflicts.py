"""A conflict of two writers, as a warehouse with several of them reports it, is a retry of the step and no failure."""

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager

from dagster import OpExecutionContext, RetryRequested
from dagster_dbt.errors import DagsterDbtCliRuntimeError

MOST_RETRIES = 8
"""Of one step; with their waits they take some five minutes."""
_LONGEST_WAIT_SECONDS = 60.0

_CONFLICT = re.compile(
    # DuckLake and DuckDB: the transaction of the one that commits later is rolled back.
    r"Transaction conflict|TransactionContext Error: Conflict|Conflict on (?:tuple|update)"
    # Postgres, 40001 and 40P01: https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html
    r"|could not serialize access|deadlock detected"
    # Postgres: two that make one table, which neither can lock before it is there.
    r"|pg_(?:type_typname_nsp|class_relname_nsp)_index|\brelation \S+ already exists"
    # Two that make one table: what dbt renames away for a moment is there twice.
    r"|__dbt_(?:backup|tmp)\"? already exists"
    # Spark: the same.
    r"|TABLE_OR_VIEW_ALREADY_EXISTS|LOCATION_ALREADY_EXISTS",
    re.IGNORECASE,
)


@contextmanager
def retried_conflicts(context: OpExecutionContext, *, several_writers: bool = True) -> Iterator[None]:
    """Have Dagster run the step again, after a while, where dbt failed for a conflict that another writer won.

    What the step has built until then it builds again, which gives the same rows.

    Args:
        context: the step's.
        several_writers: whether the warehouse takes several at once; elsewhere what sounds like a conflict is none.

    Raises:
        RetryRequested: it was a conflict.
    """
    try:
        yield
    except DagsterDbtCliRuntimeError as error:
        if not several_writers or not is_conflict(str(error)):
            raise
        wait = min(_LONGEST_WAIT_SECONDS, 2.0**context.retry_number)
        # Two that have met do not meet again at the same moment.
        raise RetryRequested(MOST_RETRIES, wait * random.uniform(0.5, 1.0)) from error  # noqa: S311 - no secret


def is_conflict(message: str) -> bool:
    """Return whether a message of dbt's tells of a conflict of writers, after which nothing was written."""
    return bool(_CONFLICT.search(message))
