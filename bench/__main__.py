"""`python -m bench`: measure, and print the tables of the report."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.generate import write_lake
from bench.history import HistoryMeasurements
from bench.peer import DifferentRowsError, PeerMeasurements
from bench.processes import ChildFailedError
from bench.report import Results, Table
from bench.rows import RANGE_DAYS, Measurements
from bench.scale import ScaleMeasurements
from bench.sites import HISTORY_DAYS, prepared_sites

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PACKAGES = ("dagster", "dagster-dbt", "dagster-dbt-common", "dbt-core", "dbt-duckdb", "duckdb")


def main(args: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code: 1 where a measured process failed."""
    options = _parser().parse_args(args)
    range_rounds = options.rounds if options.range_rounds is None else options.range_rounds
    peer_rounds = options.rounds if options.peer_rounds is None else options.peer_rounds
    progress = Progress()
    sizes = {}
    machine = machine_facts()
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = Path(temporary)
        write_lake(folder / "lake", days=max(RANGE_DAYS + 1, HISTORY_DAYS + 2 * options.rounds + 2), rows=options.rows)
        try:
            for models in options.models:
                progress.of(f"{models} models")
                progress("prepare")
                sites = prepared_sites(folder / str(models), folder / "lake", models)
                measurements = Measurements(sites, options.rounds, progress)
                measurements.measure(range_rounds=range_rounds)
                sizes[models] = measurements.samples
            progress.of("history")
            history = HistoryMeasurements(options.rounds, progress)
            history.measure()
            progress.of("peer")
            peer = PeerMeasurements(folder / "peer", peer_rounds, progress)
            if peer_rounds:
                peer.measure()
            progress.of("scale")
            scale = ScaleMeasurements(folder / "scale", peer_rounds, progress)
            if peer_rounds:
                scale.measure()
        except (ChildFailedError, DifferentRowsError) as error:
            progress.end()
            sys.stderr.write(f"{error}\n")
            return 1
    progress.end()
    results = Results(sizes, beside_peer=peer.samples, of_history=history.samples, of_scale=scale.samples)
    for title, table in results.tables():
        sys.stdout.write(f"{title}\n\n{_markdown(table) if options.markdown else _plain(table)}\n\n")
    if options.json:
        settings = {
            "rounds": options.rounds,
            "range_rounds": range_rounds,
            "peer_rounds": peer_rounds,
            "rows": options.rows,
        }
        options.json.write_text(json.dumps({"machine": machine, "settings": settings, **results.as_json()}, indent=1))
    return 0


class Progress:
    """What is measured now: one line that changes on a terminal, lines elsewhere."""

    def __init__(self) -> None:
        self._of = ""
        self._start = time.monotonic()
        self._rewrites = sys.stderr.isatty()

    def of(self, what: str) -> None:
        """Say what the next measurements are of."""
        self._of = what

    def __call__(self, what: str) -> None:
        """Say what is measured from now on."""
        text = f"{time.monotonic() - self._start:6.0f} s  {self._of}: {what}"
        sys.stderr.write(f"\r\x1b[K{text}" if self._rewrites else f"{text}\n")
        sys.stderr.flush()

    def end(self) -> None:
        """Leave the terminal's line free."""
        if self._rewrites:
            sys.stderr.write("\r\x1b[K")


def machine_facts() -> Mapping[str, Any]:
    """Return what the numbers depend on, and nothing that names the machine."""
    return {
        "cores": os.cpu_count(),
        "load_average_before": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What a partition costs under Dagster.")
    parser.add_argument("--models", type=int, nargs="*", default=[12, 500, 2000], help="sizes of the dbt project")
    parser.add_argument("--rounds", type=int, default=5, help="samples of each measurement")
    parser.add_argument("--range-rounds", type=int, help="samples of a year's run, 0 for none (default: --rounds)")
    parser.add_argument(
        "--peer-rounds", type=int, help="samples beside SQLMesh and of a long history, 0 for none (default: --rounds)"
    )
    parser.add_argument("--rows", type=int, default=400, help="rows a day of the source")
    parser.add_argument("--json", type=Path, help="write every sample, ratio and target to this file")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    return parser


def _plain(table: Table) -> str:
    return "\n".join("  ".join(cells).rstrip() for cells in _padded(table))


def _markdown(table: Table) -> str:
    head, *rows = _padded(table)
    lines = [head, ["-" * len(cell) for cell in head], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _padded(table: Table) -> Table:
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    return [[cell.ljust(width) for cell, width in zip(cells, widths, strict=True)] for cells in table]


if __name__ == "__main__":
    sys.exit(main())
