"""Loads the code locations of a workspace, each with its own interpreter, and returns what they say of themselves."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import click
import yaml

from headrace.cli.user_errors import UserError
from headrace.tools.python_traces import error_of
from headrace.workspace import Workspace

LOCATION_SCRIPT = Path(__file__).with_name("script.py")
"""What a location's own interpreter runs; its arguments are those of `describe`."""

Description = Literal["contract", "assets", "checked"]
"""What a location can say of itself."""

_AT_ONCE = 2  # a location is a second or two of one core, and most machines have two to spare
_ENTRIES = {"python_module": ("module_name", "--module"), "python_package": ("package_name", "--module")}


@dataclass(frozen=True)
class LocationEntry:
    """A code location of `workspace.yaml` that can be loaded here.

    Args:
        name: its name.
        target: the script's arguments that say what to load.
        interpreter: the Python that loads it.
        working_directory: the folder of local imports.
    """

    name: str
    target: Sequence[str]
    interpreter: str
    working_directory: Path


def location_entries(root: Path) -> Mapping[str, LocationEntry]:
    """Return the locations of a workspace that Python can load; a `grpc_server` is loaded where it runs.

    Args:
        root: the folder of `workspace.yaml`.

    Raises:
        UserError: an entry names nothing to load, or there is none that Python can load.
    """
    file = root / "workspace.yaml"
    entries = {}
    for entry in yaml.safe_load(file.read_text(encoding="utf-8"))["load_from"]:
        for kind, said in entry.items():
            if kind in (*_ENTRIES, "python_file"):
                found = _entry(kind, said, root)
                entries[found.name] = found
            elif kind != "grpc_server":
                known = ", ".join((*_ENTRIES, "python_file", "grpc_server"))
                raise UserError(f"{file}: {kind} is no kind of code location: write one of {known}")
    if not entries:
        raise UserError(f"{file}: no code location that Python can load: name one, such as `python_module`")
    return entries


def describe(
    workspace: Workspace,
    entries: Sequence[LocationEntry],
    what: Description,
    environment: Mapping[str, str] | None = None,
) -> Mapping[str, str]:
    """Return what each location says of itself, as the JSON of `script.py`; two are loaded at a time.

    Args:
        workspace: where they are.
        entries: the locations.
        what: its contract, its assets, or what a check of contracts compares.
        environment: variables for it, besides those of this process and the workspace.

    Raises:
        click.ClickException: a location does not load; the message has the cause of the first one.
    """
    with TemporaryDirectory(prefix="headrace-location-") as folder, ThreadPoolExecutor(_AT_ONCE) as pool:
        texts = list(pool.map(lambda entry: _run(workspace, entry, what, environment or {}, Path(folder)), entries))
    return {entry.name: text for entry, text in zip(entries, texts, strict=True)}


def _entry(kind: str, said: Any, root: Path) -> LocationEntry:
    options: Mapping[str, Any] = said if isinstance(said, dict) else {}
    key, argument = _ENTRIES.get(kind, ("relative_path", "--file"))
    name = options.get(key) if options else said
    if not isinstance(name, str):
        raise UserError(f"{root / 'workspace.yaml'}: {kind}: {key} is missing")
    target = [argument, str(root / name) if kind == "python_file" else name]
    if attribute := options.get("attribute"):
        target += ["--attribute", attribute]
    interpreter = os.path.expanduser(options.get("executable_path") or sys.executable)  # noqa: PTH111 - may be a command
    return LocationEntry(
        name=options.get("location_name") or name,
        target=target,
        interpreter=str(root / interpreter) if os.sep in interpreter else interpreter,
        working_directory=root / options.get("working_directory", "."),
    )


def _run(
    workspace: Workspace, entry: LocationEntry, what: Description, environment: Mapping[str, str], folder: Path
) -> str:
    out = folder / f"{entry.name.replace(os.sep, '_')}.json"
    bin_folder = str(Path(entry.interpreter).parent)
    try:
        result = subprocess.run(  # noqa: S603 - the interpreter that the workspace names
            [
                *(entry.interpreter, str(LOCATION_SCRIPT), "--describe", what, "--location", entry.name, *entry.target),
                *("--working-directory", str(entry.working_directory.resolve()), "--root", str(workspace.root)),
                *("--out", str(out)),
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
        raise click.ClickException(f"{entry.name}: {entry.interpreter}: {error.strerror}: see workspace.yaml") from None
    if result.returncode:
        raise click.ClickException(f"{entry.name} does not load: {error_of(result.stdout).removeprefix('Error: ')}")
    return out.read_text(encoding="utf-8")
