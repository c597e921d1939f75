"""Loads the code locations of a workspace, each with its own interpreter, and returns what they say of themselves."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import click

from headrace.cli.user_errors import UserError
from headrace.tools.python_traces import error_of
from headrace.workspace import Workspace
from headrace.workspace_file import WORKSPACE, Entry

LOCATION_SCRIPT = Path(__file__).with_name("script.py")
"""What a location's own interpreter runs; its arguments are those of `describe`."""

Description = Literal["contract", "assets", "checked", "stored"]
"""What a location can say of itself."""

_AT_ONCE = 2  # a location is a second or two of one core, and most machines have two to spare


def loadable(workspace: Workspace) -> Mapping[str, Entry]:
    """Return the locations of a workspace that Python can load; a `grpc_server` is loaded where it runs.

    Raises:
        UserError: there is none.
    """
    found = {name: entry for name, entry in workspace.locations.items() if entry.kind != "grpc_server"}
    if not found:
        raise UserError(
            f"{workspace.root / WORKSPACE}: no code location that Python can load: name one, such as `python_module`"
        )
    return found


def describe(
    workspace: Workspace,
    entries: Sequence[Entry],
    what: Description,
    environment: Mapping[str, str] | None = None,
    *,
    at_once: int = _AT_ONCE,
) -> Mapping[str, str]:
    """Return what each location says of itself, as the JSON of `script.py`.

    Args:
        workspace: where they are.
        entries: the locations.
        what: its contract, its assets, what a check of contracts compares, or what is stored of what was recorded.
        environment: variables for it, besides those of this process and the workspace.
        at_once: how many are loaded at a time.

    Raises:
        click.ClickException: a location does not load; the message has the cause of the first one.
    """
    with TemporaryDirectory(prefix="headrace-location-") as folder, ThreadPoolExecutor(at_once) as pool:
        texts = list(pool.map(lambda entry: _run(workspace, entry, what, environment or {}, Path(folder)), entries))
    return {entry.name: text for entry, text in zip(entries, texts, strict=True)}


def _run(workspace: Workspace, entry: Entry, what: Description, environment: Mapping[str, str], folder: Path) -> str:
    out = folder / f"{entry.name.replace(os.sep, '_')}.json"
    python = entry.python(workspace.root, sys.executable)
    bin_folder = str(Path(python).parent)
    try:
        result = subprocess.run(  # noqa: S603 - the interpreter that the workspace names
            [
                *(python, str(LOCATION_SCRIPT), "--describe", what, "--location", entry.name),
                *(*entry.arguments(workspace.root), "--root", str(workspace.root), "--out", str(out)),
            ],
            check=False,
            cwd=workspace.root,
            env={
                **os.environ,
                **workspace.environment(),
                **environment,
                "PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise click.ClickException(f"{entry.name}: {python}: {error.strerror}: see workspace.yaml") from None
    if result.returncode:
        failed = f"{entry.name}:" if what == "stored" else f"{entry.name} does not load:"
        raise click.ClickException(f"{failed} {error_of(result.stdout).removeprefix('Error: ')}")
    return out.read_text(encoding="utf-8")
