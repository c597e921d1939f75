"""The command `headrace demo-data`: export files of a jaffle shop, as a source system would write them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import get_args

import click
import duckdb
from rich.console import Console
from rich.progress import Progress

from headrace.cli.user_errors import OneLineCommand, UserError
from headrace.demo.export import revise_demo_day, write_demo_data
from headrace.demo.export_folder import FileFormat
from headrace.demo.jafgen import split_jafgen_export

_DAY = click.DateTime(formats=["%Y-%m-%d"])


@click.command("demo-data", cls=OneLineCommand)
@click.option("--from", "first", type=_DAY, metavar="DAY", help="First day.  [default: 2024-01-01]")
@click.option("--to", "last", type=_DAY, metavar="DAY", help="Last day.  [default: 2024-03-31]")
@click.option("--orders-per-day", type=click.IntRange(min=1), metavar="N", help="Average in 2024.  [default: 400]")
@click.option("--seed", type=int, metavar="N", help="Another seed gives other data.  [default: 7]")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    envvar="HEADRACE_EXPORTS",
    show_envvar=True,
    required=True,
    help="The export folder.",
)
@click.option("--format", "file_format", type=click.Choice(get_args(FileFormat)), help="[default: csv]")
@click.option("--force", is_flag=True, help="Replace an export that was written with other arguments.")
@click.option("--revise", type=_DAY, metavar="DAY", help="Write this day again, with more late orders.")
@click.option(
    "--jafgen",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Generate nothing: split the files that jafgen wrote in DIR by day.",
)
def demo_data(
    *,
    first: datetime | None,
    last: datetime | None,
    orders_per_day: int | None,
    seed: int | None,
    out: Path,
    file_format: FileFormat | None,
    force: bool,
    revise: datetime | None,
    jafgen: Path | None,
) -> None:
    """Write export files of a jaffle shop, one a day for orders, items and tweets.

    The same seed and orders a day give the same bytes. In a folder that was written with them, only missing days are
    added.
    """
    began = time.monotonic()
    start, end = first and first.date(), last and last.date()
    try:
        with _progress() as on_day:
            if jafgen is not None:
                _refuse("--jafgen", {"--seed": seed, "--orders-per-day": orders_per_day, "--revise": revise})
                summary = split_jafgen_export(
                    jafgen,
                    out,
                    first=start,
                    last=end,
                    file_format=file_format or "csv",
                    force=force,
                    on_day=on_day,
                )
            elif revise is not None:
                _refuse("--revise", {"--force": force or None})
                day = revise.date()
                if (start and day < start) or (end and day > end):
                    raise UserError(f"--revise {day} is not between --from and --to")
                summary = revise_demo_day(out, day, orders_per_day=orders_per_day, seed=seed, file_format=file_format)
            else:
                summary = write_demo_data(
                    out,
                    start or date(2024, 1, 1),
                    end or date(2024, 3, 31),
                    orders_per_day or 400,
                    7 if seed is None else seed,
                    file_format=file_format or "csv",
                    force=force,
                    on_day=on_day,
                )
    except OSError as error:
        raise click.ClickException(f"{out} was not written: {error.strerror}: {error.filename}") from error
    except duckdb.Error as error:
        raise click.ClickException(f"{out} was not written: {str(error).splitlines()[0]}") from error
    click.echo(
        f"wrote {summary.days:,} day{'s' * (summary.days != 1)} to {out}: {summary.files:,} files, "
        f"{summary.orders:,} orders, {summary.items:,} items, {time.monotonic() - began:.1f} s"
    )


def _refuse(option: str, others: dict[str, object]) -> None:
    for other, value in others.items():
        if value is not None:
            raise UserError(f"{other} has no effect with {option}: leave it out")


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Lend a function that shows a bar on a terminal, once the work has lasted for a second."""
    console = Console(stderr=True)
    began = time.monotonic()
    with Progress(console=console, transient=True, disable=True) as bar:
        task = bar.add_task("days", total=None)

        def on_day(days: int) -> None:
            if bar.disable and console.is_terminal and time.monotonic() - began > 1:
                bar.disable = False
                bar.start()
            bar.update(task, advance=1, total=days)

        yield on_day
