"""The closures of a uv workspace's members, from its `uv.lock`: equal to `uv export` of each, and read once for all."""

import json
import tomllib
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_Node = tuple[int, str]
"""A package's place in the lock, and a part of it: "" for itself, `extra NAME`, or `group NAME`."""

_LOCAL = ("editable", "virtual", "directory")
_NO_CONTENT = frozenset({"url", "size", "upload-time"})


class LockError(ValueError):
    """The text is no `uv.lock` that this version reads; the message says why."""


@dataclass(frozen=True)
class Closure:
    """All that a member is installed with, on all platforms.

    Args:
        members: the members in it, each with the way to it: from the member itself to that one.
        packages: every package in it, with what is locked of it. Two closures that compare equal install the same.
        versions: the versions of each package.
    """

    members: Mapping[str, tuple[str, ...]]
    packages: Mapping[str, frozenset[str]]
    versions: Mapping[str, str]

    def changed(self, before: "Closure") -> Sequence[str]:
        """Return what differs from an earlier closure: a package a line, with its versions where they differ."""
        lines = []
        for name in sorted(self.packages.keys() | before.packages.keys()):
            if self.packages.get(name) != before.packages.get(name):
                old, new = before.versions.get(name), self.versions.get(name)
                lines.append(
                    f"{name} locked differently" if old == new else f"{name} {old or 'none'} → {new or 'none'}"
                )
        return lines


class Lock:
    """A `uv.lock`.

    Args:
        text: its text.

    Raises:
        LockError: it is no lock of uv, or of a format that this does not know.
    """

    def __init__(self, text: str) -> None:
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise LockError(str(error)) from None
        # A revision of version 1 is readable by all that read version 1: https://docs.astral.sh/uv/concepts/resolution/
        if content.get("version") != 1:
            raise LockError(f"its version is {content.get('version')}, and this headrace reads version 1")
        self._packages: list[dict[str, Any]] = content.get("package", [])
        self._by_name = defaultdict(list)
        for index, package in enumerate(self._packages):
            self._by_name[package["name"]].append(index)
        manifest = content.get("manifest", {})
        self._root_groups: Mapping[str, Any] = manifest.get("dependency-groups", {})
        named = manifest.get("members")
        self.members: Mapping[str, str] = {
            package["name"]: folder
            for package in self._packages
            if (folder := _folder(package)) is not None and (package["name"] in named if named else folder == ".")
        }
        """The folder of each member, relative to the root, whose own is `.`."""

    @property
    def root(self) -> str | None:
        """Return the member that is the workspace's root; None where the root is no project."""
        return next((name for name, folder in self.members.items() if folder == "."), None)

    def closure(self, member: str, *, tested: bool) -> Closure:
        """Return what a member is installed with: all of its extras, and of other packages those that are asked for.

        Args:
            member: its name.
            tested: with its dependency groups, as its tests run; else without, as it is deployed.
        """
        (index,) = [index for index in self._by_name[member] if _folder(self._packages[index]) is not None]
        parts = ["optional-dependencies", *(["dev-dependencies"] if tested else [])]
        start = [(index, ""), *(node for part in parts for node in self._parts(index, part))]
        return self._reached(start)

    def has_groups(self, member: str) -> bool:
        """Return whether a member has a dependency group with something in it."""
        entries = (self._packages[index] for index in self._by_name[member])
        return any(entry.get("dev-dependencies") for entry in entries if _folder(entry) is not None)

    def declared(self, member: str) -> Mapping[str, Any]:
        """Return what is locked of a member's own `pyproject.toml`: its version, its kind, and all that it asks for."""
        entries = (self._packages[index] for index in self._by_name[member])
        return {key: entry[key] for entry in entries for key in ("version", "source", "metadata") if key in entry}

    @cached_property
    def tools(self) -> Closure:
        """Return the packages of the root's dependency groups, without the members and what only those need."""
        members = {index for name in self.members for index in self._by_name[name]}
        groups = [dependency for group in self._root_groups.values() for dependency in group]
        start = [node for dependency in groups for node in self._targets(dependency) if node[0] not in members]
        for index in self._by_name[self.root] if self.root else ():
            start += self._parts(index, "dev-dependencies")
        return self._reached(start, without=members)

    def dependencies(self, package: str) -> Collection[str]:
        """Return the names of what a package depends on itself, without extras."""
        found = (self._packages[index] for index in self._by_name[package])
        return {dependency["name"] for entry in found for dependency in entry.get("dependencies", ())}

    def _reached(self, start: Iterable[_Node], without: Collection[int] = ()) -> Closure:
        ways: dict[_Node, tuple[str, ...]] = {}
        waiting: deque[tuple[_Node, tuple[str, ...]]] = deque((node, ()) for node in start)
        while waiting:
            node, way = waiting.popleft()
            if node in ways:
                continue
            name = self._packages[node[0]]["name"]
            if name in self.members and name not in way:
                way = (*way, name)
            ways[node] = way
            waiting.extend((target, way) for target in self._edges[node] if target[0] not in without)
        members: dict[str, tuple[str, ...]] = {}
        packages: dict[str, set[str]] = defaultdict(set)
        versions: dict[str, set[str]] = defaultdict(set)
        for node, way in ways.items():
            entry = self._packages[node[0]]
            packages[entry["name"]].add(self._contents[node])
            versions[entry["name"]].add(entry.get("version", ""))
            if entry["name"] in self.members:
                members.setdefault(entry["name"], way)
        return Closure(
            members=members,
            packages={name: frozenset(contents) for name, contents in packages.items()},
            versions={name: ", ".join(sorted(found - {""})) for name, found in versions.items()},
        )

    @cached_property
    def _edges(self) -> Mapping[_Node, Sequence[_Node]]:
        return {
            node: [target for dependency in dependencies for target in self._targets(dependency)]
            for node, dependencies in self._sections()
        }

    @cached_property
    def _contents(self) -> Mapping[_Node, str]:
        """Return what is locked of each part of a package: its version, its artifacts, and what it needs."""
        contents = {}
        for node, dependencies in self._sections():
            entry = self._packages[node[0]]
            locked: dict[str, Any] = {"part": node[1], "dependencies": dependencies}
            if not node[1]:
                locked |= {key: entry.get(key) for key in ("version", "source", "resolution-markers")}
                locked["artifacts"] = sorted(map(_artifact, (*entry.get("wheels", ()), entry.get("sdist", {}))))
            contents[node] = json.dumps(locked, sort_keys=True)
        return contents

    def _sections(self) -> Iterator[tuple[_Node, Sequence[Mapping[str, Any]]]]:
        for index, package in enumerate(self._packages):
            yield (index, ""), package.get("dependencies", ())
            for name, dependencies in package.get("optional-dependencies", {}).items():
                yield (index, f"extra {name}"), dependencies
            for name, dependencies in package.get("dev-dependencies", {}).items():
                yield (index, f"group {name}"), dependencies

    def _parts(self, index: int, section: str) -> list[_Node]:
        kind = "extra" if section == "optional-dependencies" else "group"
        return [(index, f"{kind} {name}") for name in self._packages[index].get(section, {})]

    def _targets(self, dependency: Mapping[str, Any]) -> Iterator[_Node]:
        """Yield the package that a dependency names, and those of its extras that it asks for."""
        for index in self._by_name[dependency["name"]]:
            package = self._packages[index]
            # A package that is locked in several versions is named with one of them.
            if all(dependency[key] == package.get(key) for key in ("version", "source") if key in dependency):
                yield index, ""
                # The root's groups, where it is no project, are written as requirements: `extras`.
                for extra in (*dependency.get("extra", ()), *dependency.get("extras", ())):
                    if extra in package.get("optional-dependencies", {}):
                        yield index, f"extra {extra}"


def _folder(package: Mapping[str, Any]) -> str | None:
    source = package.get("source", {})
    return next((source[kind] for kind in _LOCAL if kind in source), None)


def _artifact(artifact: Mapping[str, Any]) -> str:
    """Return what identifies a file: its hash. Where it is served and when it came there changes nothing."""
    identity = {key: value for key, value in artifact.items() if key not in _NO_CONTENT}
    return json.dumps(identity or dict(artifact), sort_keys=True)
