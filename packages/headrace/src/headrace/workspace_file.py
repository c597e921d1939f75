"""`workspace.yaml`: the code locations of a workspace, in every form that Dagster takes.

The forms and the default names are those of https://docs.dagster.io/deployment/code-locations/workspace-yaml; a test
holds this equal to Dagster's own reading. It is our own because Dagster's is private and takes seconds to import, which
`headrace affected` need not wait for, and because a revision of the file that is not checked out is read too.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from headrace.cli.user_errors import UserError

WORKSPACE = "workspace.yaml"

Kind = Literal["python_module", "python_package", "python_file", "autoload_defs_module", "grpc_server"]

_KINDS: tuple[Kind, ...] = get_args(Kind)
_TARGETS: Mapping[Kind, str] = {
    "python_module": "module_name",
    "python_package": "package_name",
    "python_file": "relative_path",
    "autoload_defs_module": "module_name",
}
_OPTIONS = ("location_name", "attribute", "working_directory", "executable_path")
_OF_SERVERS = ("host", "port", "socket", "location_name", "ssl", "additional_metadata")
_FLAGS: Mapping[Kind, str] = {
    "python_module": "--module-name",
    "python_package": "--package-name",
    "python_file": "--python-file",
    "autoload_defs_module": "--autoload-defs-module-name",
}


@dataclass(frozen=True)
class Entry:
    """A code location of the file.

    Args:
        kind: how it is loaded.
        name: its name; Dagster's default where the file gives none.
        target: the module, package or file that is loaded, as it is written; empty for a server.
        attribute: the name in the module that holds its definitions, where the file gives one.
        working_directory: the folder of local imports, as it is written.
        executable_path: the Python that loads it, as it is written.
        server: of a `grpc_server`, the address that the file gives.
    """

    kind: Kind
    name: str
    target: str = ""
    attribute: str | None = None
    working_directory: str | None = None
    executable_path: str | None = None
    server: Mapping[str, Any] = field(default_factory=dict)

    @property
    def module(self) -> str | None:
        """Return what an interpreter imports to load it; None for a file and for a server."""
        return self.target if self.kind in ("python_module", "python_package", "autoload_defs_module") else None

    def python(self, root: Path, default: str) -> str:
        """Return the Python that loads it.

        Args:
            root: the folder of `workspace.yaml`.
            default: the Python of an entry that names none.
        """
        if not self.executable_path:
            return default
        expanded = os.path.expanduser(self.executable_path)  # noqa: PTH111 - it may be a command on PATH
        return str(root / expanded) if os.sep in expanded else expanded

    def folder(self, root: Path) -> Path:
        """Return the folder of its local imports."""
        return (root / (self.working_directory or ".")).resolve()

    def arguments(self, root: Path) -> Sequence[str]:
        """Return the options of `dagster api grpc` that load it; none for a server."""
        if self.kind == "grpc_server":
            return ()
        target = str(root / self.target) if self.kind == "python_file" else self.target
        attribute = ("--attribute", self.attribute) if self.attribute else ()
        return (_FLAGS[self.kind], target, *attribute, "--working-directory", str(self.folder(root)))


def root_above(here: Path, names: Sequence[str] = (WORKSPACE,)) -> Path:
    """Return the nearest folder, at or above this one, that holds one of the files.

    Raises:
        UserError: there is none.
    """
    for folder in (here, *here.parents):
        if any((folder / name).is_file() for name in names):
            return folder
    raise UserError(f"no folder at or above {here} holds {' or '.join(names)}: go to a Headrace workspace")


def read_workspace_file(root: Path) -> Sequence[Entry]:
    """Return the code locations of the workspace in a folder, in the order of the file.

    Raises:
        UserError: the file cannot be read, or has an entry that Dagster would not take.
    """
    file = root / WORKSPACE
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: {error}: make it a readable UTF-8 file") from None
    return parse_workspace_file(text, str(file))


def parse_workspace_file(text: str, where: str, environment: Mapping[str, str] = os.environ) -> Sequence[Entry]:
    """Return the code locations of the file's text.

    Args:
        text: the YAML.
        where: names the file in errors.
        environment: the variables that the file may name as `{env: NAME}`.

    Raises:
        UserError: it is not YAML, or has an entry that Dagster would not take; the message says which.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: {' '.join(str(error).split())}: correct it") from None
    if not isinstance(content, dict) or not isinstance(content.get("load_from", []), list):
        raise UserError(f"{where}: it has no list `load_from`: write one with an entry for each code location")
    entries = (
        [_entry(said, f"{where}: load_from[{number}]", environment) for number, said in enumerate(content["load_from"])]
        if "load_from" in content
        else []
    )
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{where}: two code locations are named {name}: give one of them another location_name")
    return entries


def _entry(said: Any, where: str, environment: Mapping[str, str]) -> Entry:
    if not isinstance(said, dict) or len(said) != 1:
        raise UserError(f"{where}: an entry has one key: write one of {', '.join(_KINDS)}")
    ((kind, options),) = said.items()
    if kind not in _KINDS:
        raise UserError(f"{where}: {kind} is not a kind of code location: write one of {', '.join(_KINDS)}")
    if kind == "grpc_server":
        return _server(options, f"{where}.{kind}", environment)
    key = _TARGETS[kind]
    if isinstance(options, str):
        options = {key: options}
    allowed = (key, *(name for name in _OPTIONS if kind != "autoload_defs_module" or name != "attribute"))
    found = _strings(options, f"{where}.{kind}", allowed, environment)
    if not found.get(key):
        raise UserError(f"{where}.{kind}: {key} is missing: write it")
    target, attribute = found[key], found.get("attribute")
    default = Path(target).name if kind == "python_file" else target
    return Entry(
        kind=kind,
        name=found.get("location_name") or (f"{default}:{attribute}" if attribute else default),
        target=target,
        attribute=attribute,
        working_directory=found.get("working_directory"),
        executable_path=found.get("executable_path"),
    )


def _server(options: Any, where: str, environment: Mapping[str, str]) -> Entry:
    if not isinstance(options, dict):
        raise UserError(f"{where}: it is not a mapping: write its host and port, or its socket")
    plain = {key: value for key, value in options.items() if key not in ("port", "ssl", "additional_metadata")}
    server: dict[str, Any] = dict(_strings(plain, where, _OF_SERVERS, environment))
    port = _resolved(options.get("port"), where, environment)
    if port is not None:
        try:
            server["port"] = int(port)
        except (TypeError, ValueError):
            raise UserError(f"{where}: port {port!r} is not a number: write one") from None
    if bool(server.get("port")) == bool(server.get("socket")):
        raise UserError(f"{where}: it has not one of port and socket: write one of them")
    server |= {key: options[key] for key in ("ssl", "additional_metadata") if key in options}
    server["host"] = server.get("host") or "localhost"
    address = server.get("socket") or server["port"]
    return Entry(
        kind="grpc_server", name=server.get("location_name") or f"grpc:{server['host']}:{address}", server=server
    )


def _strings(options: Any, where: str, allowed: Sequence[str], environment: Mapping[str, str]) -> Mapping[str, str]:
    if not isinstance(options, dict):
        raise UserError(f"{where}: it is neither a name nor a mapping: write one")
    found = {}
    for key, said in options.items():
        if key not in allowed:
            raise UserError(f"{where}: {key} is unknown: write one of {', '.join(allowed)}")
        value = _resolved(said, f"{where}.{key}", environment)
        if not isinstance(value, str):
            raise UserError(f"{where}: {key} is not text: write it in quotes")
        found[key] = value
    return found


def _resolved(value: Any, where: str, environment: Mapping[str, str]) -> Any:
    """Return a value, or that of the environment variable that it names: https://docs.dagster.io `StringSource`."""
    if isinstance(value, dict) and set(value) == {"env"}:
        if value["env"] not in environment:
            raise UserError(f"{where}: the environment variable {value['env']} is not set: set it")
        return environment[value["env"]]
    return value
