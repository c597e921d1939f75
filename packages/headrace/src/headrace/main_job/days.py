"""Which days `headrace run` builds. It imports little: a wrong call is refused before anything is loaded."""

from collections.abc import Callable, Collection
from datetime import UTC, date, datetime, timedelta

from headrace.cli.user_errors import UserError
from headrace.main_job.exports import ExportFiles
from headrace.workspace import Workspace

_DEMO_DAYS = 90


def days_to_build(
    workspace: Workspace,
    first: date | None,
    last: date | None,
    tables: Collection[str] | None = None,
    tell: Callable[[str], object] = lambda _line: None,
) -> tuple[date, date]:
    """Return the first and last day to build.

    Args:
        workspace: the workspace.
        first: the first day, where it is given.
        last: the last day, where it is given.
        tables: the tables that are loaded from exports; None before the locations are asked.
        tell: is told of a last day that is not over.

    Raises:
        UserError: the days are not in order, or lie before `HEADRACE_START`.
    """
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    exports = ExportFiles.of(workspace.exports)
    bounds = exports.bounds(tables)
    # One export with a wrong date would else ask for all the days until then.
    if last is None and bounds and bounds[1] > yesterday and (over := exports.bounds(tables, yesterday)):
        tell(f"{bounds[1]} is not over yet: building up to {over[1]}")
        bounds = over
    start = first or (max(bounds[0], workspace.start) if bounds else workspace.start)
    end = last or (bounds[1] if bounds else start + timedelta(days=_DEMO_DAYS - 1))
    if start > end:
        raise UserError(f"the first day, {start}, is after the last, {end}: change --from, --to or HEADRACE_START")
    if start < workspace.start:
        raise UserError(f"--from {start} is before the first partition, {workspace.start}: set HEADRACE_START earlier")
    if end > yesterday:
        tell(f"{end} is not over yet: building up to {yesterday}")
        end = yesterday
        if start > end:
            raise UserError(f"the first day, {start}, is not over yet: build it tomorrow")
    return start, end
