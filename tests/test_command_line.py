"""What holds of every command: `-h`, `--version`, the shell's completion, and NO_COLOR."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from headrace.cli.main import main

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[1]
COLOUR = re.compile(rb"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;\d+)*m")


def commands(command: click.Command, *words: str) -> Iterator[tuple[str, ...]]:
    yield words
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, *words, name)


def test_every_command_has_its_help_at_h() -> None:
    words = list(commands(main))
    assert {("run",), ("doctor",), ("release", "deploy"), ("contract", "export"), ("dbt", "ci")} <= set(words)
    for each in words:
        short, long = (CliRunner().invoke(main, [*each, option]) for option in ("-h", "--help"))
        assert (short.exit_code, short.stdout) == (0, long.stdout), each
        assert "-h, --help" in short.stdout, each


@pytest.mark.slow
def test_the_command_of_the_library_has_its_help_at_h() -> None:
    for words in ([], ["package"]):
        done = subprocess.run([BIN / "dagster-dbt-common", *words, "-h"], check=False, capture_output=True, text=True)
        assert (done.returncode, done.stdout.startswith("usage: dagster-dbt-common")) == (0, True)


def test_the_version_is_that_of_the_package() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "packages/headrace/pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert CliRunner().invoke(main, ["--version"]).stdout == f"headrace, version {version.group(1)}\n"


COMPLETED = {
    "headrace do": ["doctor"],
    "headrace r": ["reconcile", "release", "run"],
    "headrace --v": ["--version"],
    "headrace release ro": ["rollback"],
    "headrace demo-data --rev": ["--revise"],
}


@pytest.mark.slow
@pytest.mark.parametrize("line", COMPLETED)
def test_bash_completes_without_dagster(line: str, tmp_path: Path) -> None:
    # Readline's own call of the function that `complete -F` names: https://www.gnu.org/software/bash/manual
    script = f"""
        eval "$(_HEADRACE_COMPLETE=bash_source headrace)"
        read -ra COMP_WORDS <<< '{line}'
        [[ '{line}' == *' ' ]] && COMP_WORDS+=('')
        COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
        export PYTHONPROFILEIMPORTTIME=1
        spec=$(complete -p headrace)
        [[ $spec =~ -F\\ ([a-z_]+) ]] && ${{BASH_REMATCH[1]}} headrace "${{COMP_WORDS[COMP_CWORD]}}" 2> imports
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/bash", "-c", script],
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == COMPLETED[line], done.stderr
    imported = (tmp_path / "imports").read_text()
    assert "headrace.cli.lazy_group" in imported
    assert not re.search(r"\| +dagster", imported)


SHOWN = """
import sys
from dagster import AssetKey
from rich.console import Console
from headrace.main_job.plan import BuildPlan
from headrace.main_job.progress import Progress, result_table
from headrace.main_job.report import Failure, RunReport
from headrace.main_job.run import _print_failures

class Report:
    assets, checks, failures, partitions_done, assets_done = {}, [True, False], [Failure("a", "b")], 1, 1

console = Console(stderr=True, soft_wrap=True, highlight=False)
with Progress(console, BuildPlan({}, {})).shown() as progress:
    progress.show(Report())
    progress.tell("a line with 3 numbers")
_print_failures(Report(), console)
Console().print(result_table(Report()))
"""


def on_terminal(command: list[str], folder: Path, **variables: str) -> bytes:
    """Return what a command writes to its terminal."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**inherited, "TERM": "xterm-256color", "COLORTERM": "truecolor", **variables},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ):
        os.close(theirs)
        written = b""
        try:
            while chunk := os.read(ours, 65536):
                written += chunk
        except OSError:  # how Linux says that the other side is closed
            pass
    os.close(ours)
    return written


@pytest.mark.some_of("commands without colour", 1)
@pytest.mark.slow
@pytest.mark.parametrize("what", ["the progress and the table of a run", "doctor", "demo data"])
def test_no_color_leaves_a_terminal_without_colour(what: str, tmp_path: Path) -> None:
    (tmp_path / "workspace.yaml").write_text("load_from: [")
    demo = [
        str(BIN / "headrace"),
        "demo-data",
        "--force",
        "--from",
        "2024-01-01",
        "--to",
        "2024-01-07",
        "--out",
        "shop",
    ]
    command = {
        "the progress and the table of a run": [sys.executable, "-c", SHOWN],
        "doctor": [str(BIN / "headrace"), "doctor"],
        "demo data": demo,
    }[what]
    coloured, plain = on_terminal(command, tmp_path), on_terminal(command, tmp_path, NO_COLOR="1")
    assert b"Traceback" not in coloured + plain
    if what != "demo data":  # its bar is shown only where it takes long
        assert COLOUR.search(coloured)
    assert not COLOUR.search(plain)
    assert len(plain) > 20
