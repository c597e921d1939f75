"""The progress of a backfill: bars on a terminal, plain lines elsewhere; and the table at its end."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich import progress as bars
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.main_job.plan import BuildPlan
from headrace.main_job.report import RunReport

_SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Shows how far a backfill is.

    Args:
        console: where to; bars where it is a terminal, a line every five seconds and at each change elsewhere.
        plan: what the backfill builds.
    """

    def __init__(self, console: Console, plan: BuildPlan) -> None:
        self._console = console
        self._plan = plan
        self._bars: bars.Progress | None = None
        self._began = time.monotonic()
        self._last_line = ("", 0.0)

    @contextmanager
    def shown(self) -> Iterator["Progress"]:
        """Show it while the context lasts."""
        if not self._console.is_terminal:
            yield self
            return
        columns = (bars.TextColumn("{task.description:>10}"), bars.BarColumn(), bars.MofNCompleteColumn())
        with bars.Progress(*columns, bars.TimeElapsedColumn(), console=self._console, transient=True) as shown:
            self._bars = shown
            self._partitions = shown.add_task("partitions", total=self._plan.size)
            self._assets = shown.add_task("assets", total=len(self._plan.partitions))
            self._checks = shown.add_task("checks", total=None)
            yield self

    def tell(self, text: str) -> None:
        """Print a line beside it."""
        self._console.print(text)

    def show(self, report: RunReport) -> None:
        """Show the state of a report."""
        passed, ran = sum(report.checks), len(report.checks)
        if self._bars:
            self._bars.update(self._partitions, completed=report.partitions_done)
            self._bars.update(self._assets, completed=report.assets_done)
            self._bars.update(self._checks, completed=passed, total=ran or None)
            return
        seconds = time.monotonic() - self._began
        text = (
            f"{report.partitions_done:,} of {self._plan.size:,} partitions, "
            f"{report.assets_done} of {len(self._plan.partitions)} assets, {passed} of {ran} checks passed"
        )
        last, at = self._last_line
        if text != last and seconds - at >= _SECONDS_BETWEEN_LINES:
            self._console.print(f"{seconds:5.0f} s  {text}", highlight=False)
            self._last_line = (text, seconds)


def result_table(report: RunReport) -> Table:
    """Return the table at the end: an asset a line."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("asset")
    for name in ("partitions", "rows", "seconds", "checks passed"):
        table.add_column(name, justify="right")
    for key, asset in report.assets.items():
        passed, ran = sum(asset.checks.values()), len(asset.checks)
        table.add_row(
            key.to_user_string(),
            Text(f"{len(asset.partitions):,} of {asset.planned:,}", "" if asset.done else "red"),
            "" if asset.rows is None else f"{asset.rows:,}",
            f"{asset.seconds:.2f}",
            Text(f"{passed} of {ran}" if ran else "", "" if passed == ran else "red"),
        )
    return table


def profile_table(seconds: Mapping[str, float]) -> Table:
    """Return the seconds as a table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("where the time went")
    table.add_column("seconds", justify="right")
    for name, value in seconds.items():
        stage, _, part = name.partition(".")
        table.add_row(f"  {part}" if part else stage, f"{value:.2f}")
    return table
