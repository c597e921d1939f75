"""Which members of a workspace a file bears on, at one revision of it."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from headrace.affected.path_patterns import is_path, matches
from headrace.cli.user_errors import UserError

_TEST_TABLES = ("coverage", "headrace", "mypy", "pytest", "ruff")
"""Tables below `[tool]` of a `pyproject.toml` that nothing deployed reads; so are the dependency groups."""

_LOCKED = ("name", "version", "requires-python", "dependencies", "optional-dependencies", "dynamic")
"""Keys of `[project]` that uv compares with its lock; so are the dependency groups, and what follows."""

_LOCKED_UV = ("dependency-groups", "dev-dependencies", "package", "sources")
"""Keys of a member's `[tool.uv]`."""

_TABLES = ("project", "tool", "tool.dg", "tool.dg.project", "tool.headrace", "tool.headrace.affected", "tool.uv")
"""What is a table where it is there."""


@dataclass(frozen=True)
class Rules:
    """The table `[tool.headrace.affected]` of the root's `pyproject.toml`: patterns of paths, relative to the root.

    Without it there are none: what nobody owns bears on all.

    Args:
        all: files that bear on every member.
        all_tests: files that bear on the tests of every member, and on nothing that is deployed.
        docs: files that bear on nobody, unless a member claims one by its full path.
        tests: files of a member, relative to its folder, that no dependent has and no deploy.
    """

    all: Sequence[str] = ()
    all_tests: Sequence[str] = ()
    docs: Sequence[str] = ()
    tests: Sequence[str] = ()


@dataclass(frozen=True)
class Bearing:
    """What a file bears on.

    Args:
        member: a member; None for every member.
        why: why it is every member.
        deployed: whether it is part of what is deployed, and of what dependents have; else only the tests read it.
    """

    member: str | None
    why: str = ""
    deployed: bool = True


@dataclass(frozen=True)
class Owners:
    """Who owns which file.

    Args:
        folders: the folder of each member, `.` for the root's.
        claims: the patterns of the files elsewhere that a member claims.
        rules: the root's.
    """

    folders: Mapping[str, str]
    claims: Mapping[str, Sequence[str]]
    rules: Rules = field(default_factory=Rules)

    def of(self, path: str, *, kept: bool = True) -> frozenset[Bearing]:
        """Return what a file bears on.

        Args:
            path: its path.
            kept: whether it still exists. A document that is gone bears on its member, whose wheel may name it.
        """
        if matches(path, self.rules.all):
            return frozenset({Bearing(None, "root file")})
        if matches(path, self.rules.all_tests):
            return frozenset({Bearing(None, "root file", deployed=False)})
        claimed = {name: [claim for claim in claims if matches(path, [claim])] for name, claims in self.claims.items()}
        home = self._home(path)
        if matches(path, self.rules.docs):
            readers = {Bearing(name) for name, claims in claimed.items() if any(map(is_path, claims))}
            return frozenset(readers | ({Bearing(home)} if home and not kept else set()))
        found = {Bearing(name) for name, claims in claimed.items() if claims}
        if home:
            inside = path.removeprefix(f"{self.folders[home]}/")
            found.add(Bearing(home, deployed=not matches(inside, self.rules.tests)))
        return frozenset(found or {Bearing(None, "owned by nobody")})

    def claimants(self, path: str) -> Sequence[str]:
        """Return the members in whose folder a file is, outside of their tests, or that claim it."""
        return sorted({bearing.member for bearing in self.of(path) if bearing.member and bearing.deployed})

    def _home(self, path: str) -> str | None:
        around = [name for name, folder in self.folders.items() if folder != "." and path.startswith(f"{folder}/")]
        return max(around, key=lambda name: len(self.folders[name]), default=None)


def parsed(text: str | None) -> Mapping[str, Any] | None:
    """Return what a `pyproject.toml` says; None where there is none, or it is broken."""
    try:
        content = tomllib.loads(text or "")
    except tomllib.TOMLDecodeError:
        return None
    sound = all(isinstance(_at(content, table.split(".")), dict) for table in _TABLES)
    return content if text is not None and sound else None


def _at(content: Mapping[str, Any], way: Sequence[str]) -> Any:
    """Return what stands at the end of a way of keys; an empty table where the way ends before."""
    found: Any = content
    for key in way:
        found = found.get(key, {}) if isinstance(found, dict) else {}
    return found


def claims_of(pyproject: Mapping[str, Any], where: str) -> Sequence[str]:
    """Return the patterns of `[tool.headrace] owns`.

    Raises:
        UserError: it is no list of texts.
    """
    return _patterns(_table(pyproject), "owns", where)


def rules_of(pyproject: Mapping[str, Any], where: str) -> Rules:
    """Return the rules of `[tool.headrace.affected]`.

    Raises:
        UserError: it has a key that there is not, or no list of texts.
    """
    table = _table(pyproject).get("affected", {})
    keys = {rule.name.replace("_", "-"): rule.name for rule in fields(Rules)}
    for key in table:
        if key not in keys:
            raise UserError(f"{where}: [tool.headrace.affected]: unknown key {key}: the keys are {', '.join(keys)}")
    return Rules(**{name: _patterns(table, key, where) for key, name in keys.items()})


def is_deployed_alike(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether two versions of a `pyproject.toml` differ in nothing that is deployed."""
    return _deployed(before) == _deployed(after)


def is_locked_alike(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether two versions of a `pyproject.toml` ask uv for the same."""
    return _locked(before) == _locked(after)


def _locked(pyproject: Mapping[str, Any]) -> Mapping[str, Any]:
    project = {key: pyproject.get("project", {}).get(key) for key in _LOCKED}
    uv = {f"uv {key}": pyproject.get("tool", {}).get("uv", {}).get(key) for key in _LOCKED_UV}
    return {**project, **uv, "groups": pyproject.get("dependency-groups")}


def _deployed(pyproject: Mapping[str, Any]) -> Mapping[str, Any]:
    tools = {name: table for name, table in pyproject.get("tool", {}).items() if name not in _TEST_TABLES}
    rest = {name: table for name, table in pyproject.items() if name not in ("tool", "dependency-groups")}
    return {**rest, "tool": tools}


def _table(pyproject: Mapping[str, Any]) -> Mapping[str, Any]:
    table: Mapping[str, Any] = pyproject.get("tool", {}).get("headrace", {})
    return table


def _patterns(table: Mapping[str, Any], key: str, where: str) -> Sequence[str]:
    patterns = table.get(key, [])
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        raise UserError(f'{where}: {key} under [tool.headrace] must be a list of patterns, like ["dbt/**"]')
    return patterns
