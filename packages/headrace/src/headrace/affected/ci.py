"""The command `headrace ci`: on this machine what the workflow of a pull request runs, for what a change affects.

Both call the same targets of the Makefile; a test holds the two lists equal.
"""

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from headrace.affected.command import affected_by
from headrace.affected.report import Affected
from headrace.cli.user_errors import OneLineCommand, UserError

_LINES_OF_A_FAILURE = 30


@dataclass(frozen=True)
class Step:
    """One target of the Makefile.

    Args:
        name: what it is called in the progress and the summary.
        words: the target and its variables.
    """

    name: str
    words: Sequence[str]


def steps(affected: Affected, *, base: str, state: Path | None = None) -> Sequence[Step]:
    """Return what has to be run, the shortest first.

    Args:
        affected: what the change affects.
        base: what it is compared with.
        state: the folder of production's manifest; that of `base` is parsed where it is None.
    """
    found = [Step("check", ["check"])]
    if affected.contracts:
        found.append(Step("contracts", ["contracts"]))
    if affected.deploy:
        found.append(Step("dbt", ["dbt-ci", f"BASE={base}", *([f"DBT_STATE={state.resolve()}"] if state else [])]))
    return [*found, *(Step(f"test {member}", ["test-member", f"MEMBER={member}"]) for member in affected.members)]


@click.command("ci", cls=OneLineCommand)
@click.option("--base", metavar="REV", help="The revision to compare with.  [default: the merge base with origin/main]")
@click.option(
    "--state", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Folder of production's manifest."
)
def ci(*, base: str | None, state: Path | None) -> None:
    """Check and test what a change affects, as the workflow of a pull request does.

    A failure does not stop the steps after it; all failures are listed. Exit code 0: all passed; 1: something failed.
    """
    root, answer, compared = affected_by(base=base, purpose="test")
    if not (root / "Makefile").is_file():
        raise UserError(f"{root}: no Makefile: restore it, `headrace ci` runs its targets")
    logs = root / ".headrace" / "ci"
    logs.mkdir(parents=True, exist_ok=True)
    failed = []
    planned = steps(answer, base=compared, state=state)
    click.echo(f"{len(planned)} steps: {', '.join(step.name for step in planned)}")
    for step in planned:
        log = logs / f"{step.name.replace(' ', '-')}.log"
        click.echo(f"{step.name} ... ", nl=False)
        started = time.monotonic()
        code = _run(root, step, log)
        click.echo(f"{'ok' if code == 0 else f'failed, exit code {code}'} ({time.monotonic() - started:.0f} s)")
        if code:
            failed.append(step)
            _tell(log, click.echo)
    if failed:
        names = ", ".join(step.name for step in failed)
        raise click.ClickException(f"{len(failed)} of {len(planned)} steps failed: {names}; see the logs in {logs}")
    click.echo(f"all {len(planned)} steps passed")


def _run(root: Path, step: Step, log: Path) -> int:
    with log.open("wb") as output:
        return subprocess.run(  # noqa: S603 - a target of the workspace's Makefile
            ["make", "--no-print-directory", *step.words],  # noqa: S607 - the user's make
            check=False,
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ).returncode


def _tell(log: Path, say: Callable[[str], None]) -> None:
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LINES_OF_A_FAILURE:]:
        say(f"    {line}")
