"""Which name a new location can have: one that is a module, a distribution, an image and a host, and nobody's yet."""

import importlib.util
import keyword
import re
import sys
import tomllib
from collections.abc import Collection, Iterable
from pathlib import Path

import yaml

from headrace.cli.user_errors import UserError
from headrace.workspace import Workspace

_NAME = re.compile(r"[a-z][a-z0-9]{0,19}")
_RESERVED = {
    "platform": "the image and the release of the webserver and the daemon",
    "warehouse": "the DuckDB file of the location analytics",
    "main": "DuckDB's default schema",
    "memory": "a database of DuckDB's own",
    "system": "a database of DuckDB's own",
    "temp": "a database of DuckDB's own",
}


def check_name(name: str, workspace: Workspace, made: Iterable[str]) -> None:
    """Refuse a name that a new location cannot have.

    Args:
        name: the name.
        workspace: the workspace.
        made: what would be made, relative to the root.

    Raises:
        UserError: it is no such name, it is reserved or taken, or it would hide a module.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"{name}: no name of a location: take 1 to 20 lower-case letters and digits, like finance")
    if name in _RESERVED:
        raise UserError(f"{name}: reserved, {_RESERVED[name]}: take another name")
    if taken := _taken(name, workspace, made):
        raise UserError(f"{name}: taken, {taken}: take another name")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise UserError(f"{name}: a word of Python, and no module: take another name")
    if name in sys.stdlib_module_names or importlib.util.find_spec(name) is not None:
        raise UserError(f"{name}: the location would hide the installed module {name}: take another name")


def _taken(name: str, workspace: Workspace, made: Iterable[str]) -> str | None:
    """Return what has the name already."""
    root = workspace.root
    if name in workspace.locations:
        return "a location of workspace.yaml"
    try:
        lock = tomllib.loads((root / "uv.lock").read_text(encoding="utf-8"))
    except (FileNotFoundError, tomllib.TOMLDecodeError):
        raise UserError(f"{root / 'uv.lock'}: no lock of uv to read: run `uv lock`, and commit it") from None
    if name in {package["name"] for package in lock.get("package", ())}:
        return "a package of uv.lock"
    compose = root / "deploy/compose.yaml"
    if compose.is_file() and name in _services(compose):
        return "a service of deploy/compose.yaml"
    return next((f"{path} is there" for path in made if (root / path).exists()), None)


def _services(compose: Path) -> Collection[str]:
    try:
        services: Collection[str] = yaml.safe_load(compose.read_text(encoding="utf-8"))["services"]
    except (yaml.YAMLError, KeyError, TypeError):
        raise UserError(f"{compose}: no services to read: mend it") from None
    return services
