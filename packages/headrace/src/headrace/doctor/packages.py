"""The packages of each interpreter: they fit each other, the workspace's pins and its lock; one DuckDB for all."""

import json
import subprocess
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from headrace.doctor.examined import Examined, table
from headrace.doctor.finding import Finding, one_line

_SCRIPT = Path(__file__).with_name("packages_script.py")
_SHOWN = 3
_DUCKDB, _EXTENSION = "duckdb", "duckdb-extension-"
_INSTALL = "make install"


@dataclass(frozen=True)
class Environment:
    """An interpreter with its packages.

    Args:
        interpreter: the Python.
        python: its version.
        packages: each package's `version` and what it `requires`, by its normalized name.
    """

    interpreter: str
    python: str
    packages: Mapping[str, Mapping[str, Any]]

    def version(self, name: str) -> str | None:
        """Return the version of a package; None where it is not installed."""
        return str(self.packages[name]["version"]) if name in self.packages else None


def read_environments(examined: Examined) -> tuple[list[Environment], list[Finding]]:
    """Ask each interpreter of the workspace for its packages; one that does not answer is a finding."""
    environments, findings = [], []
    for interpreter in examined.interpreters:
        try:
            done = subprocess.run(  # noqa: S603 - the interpreter that the workspace names
                [interpreter, str(_SCRIPT)], check=True, capture_output=True, text=True, cwd=examined.root, timeout=60
            )
            said = json.loads(done.stdout)
            environments.append(Environment(interpreter, said["python"], said["packages"]))
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            names = ", ".join(each.name for each in examined.locations if each.interpreter == interpreter)
            says = f"{interpreter}, the Python of {names or 'this command'}, does not run: {one_line(error)}"
            findings.append(Finding("python", "wrong", says, "make it, or correct executable_path in workspace.yaml"))
    return environments, findings


def check_packages(examined: Examined, environments: Sequence[Environment]) -> Iterator[Finding]:
    """Compare what is installed with what it requires, with the pins of the workspace, and with `uv.lock`."""
    constraints = _constraints(examined)
    for environment in environments:
        where = environment.interpreter
        yield _finding("packages", where, _misfits(environment), f"{len(environment.packages)} packages fit each other")
        yield _finding("pins", where, _against(environment, constraints), f"{len(constraints)} pins of pyproject.toml")
        yield _check_lock(examined.root, environment)


def check_duckdb(environments: Sequence[Environment]) -> Iterator[Finding]:
    """Look for one version of DuckDB in all environments, that of its extensions too: one reads what another wrote."""
    users: dict[str, list[str]] = defaultdict(list)
    for environment in environments:
        for name in environment.packages:
            version = environment.version(name)
            if version and (name == _DUCKDB or name.startswith(_EXTENSION)):
                users[version].append(f"{name} of {environment.interpreter}")
    if not users:
        yield Finding("duckdb", "unknown", "no interpreter of the workspace has DuckDB")
    elif len(users) == 1:
        yield Finding("duckdb", "ok", f"DuckDB {next(iter(users))} everywhere")
    else:
        says = "; ".join(f"{version}: {_some(names)}" for version, names in sorted(users.items()))
        mend = "pin one version in constraint-dependencies of pyproject.toml, then `uv lock` and `make install`"
        yield Finding("duckdb", "wrong", f"{len(users)} versions of DuckDB: {says}", mend)


def _finding(check: str, where: str, wrong: Sequence[str], fine: str) -> Finding:
    if wrong:
        return Finding(check, "wrong", f"{where}: {_some(wrong)}", _INSTALL)
    return Finding(check, "ok", f"{where}: {fine}")


def _misfits(environment: Environment) -> list[str]:
    """Return which requirements of installed packages are not met; the Dagster family pins its members exactly."""
    wrong = []
    for name, package in sorted(environment.packages.items()):
        for text in package["requires"]:
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue  # of an old package that pip and uv read in their own way
            if requirement.marker and not requirement.marker.evaluate(
                {"extra": "", "python_full_version": environment.python, "python_version": _minor(environment.python)}
            ):
                continue
            has = environment.version(canonicalize_name(requirement.name))
            if has is None:
                wrong.append(f"{name} needs {requirement.name}, which is not installed")
            elif not requirement.specifier.contains(has, prereleases=True):
                wrong.append(f"{name} needs {requirement.name}{requirement.specifier}, and {has} is installed")
    return wrong


def _constraints(examined: Examined) -> Sequence[Requirement]:
    found = []
    for text in table(examined.pyproject, "tool", "uv").get("constraint-dependencies", ()):
        try:
            found.append(Requirement(str(text)))
        except InvalidRequirement:
            continue  # uv refuses it, and says where
    return found


def _against(environment: Environment, constraints: Sequence[Requirement]) -> list[str]:
    wrong = []
    for constraint in constraints:
        has = environment.version(canonicalize_name(constraint.name))
        if has is not None and not constraint.specifier.contains(has, prereleases=True):
            wrong.append(f"{constraint.name} {has}, and pyproject.toml takes {constraint.specifier}")
    return wrong


def _check_lock(root: Path, environment: Environment) -> Finding:
    file = root / "uv.lock"
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
        locked: dict[str, set[str]] = defaultdict(set)
        for package in content["package"]:
            locked[package["name"]].add(package.get("version", ""))
    except FileNotFoundError:
        return Finding("lock", "wrong", f"{file}: it is missing", "uv lock")
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        return Finding(
            "lock", "wrong", f"{file}: {one_line(error)}", "git checkout uv.lock, or delete it and `uv lock`"
        )
    where = environment.interpreter
    differing = [
        f"{name} {environment.version(name)}, and uv.lock has {', '.join(sorted(locked[name]))}"
        for name in sorted(environment.packages)
        if name in locked and locked[name] != {""} and environment.version(name) not in locked[name]
    ]
    if differing:
        return Finding("lock", "wrong", f"{where}: {_some(differing)}", _INSTALL)
    others = sorted(name for name in environment.packages if name not in locked)
    if others:
        says = f"{where}: installed beside uv.lock: {_some(others)}"
        return Finding("lock", "warning", says, "`make install` removes them; to keep one, add it to a pyproject.toml")
    return Finding("lock", "ok", f"{where}: as uv.lock says")


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _some(things: Sequence[str]) -> str:
    more = f", and {len(things) - _SHOWN} more" if len(things) > _SHOWN else ""
    return ", ".join(things[:_SHOWN]) + more
