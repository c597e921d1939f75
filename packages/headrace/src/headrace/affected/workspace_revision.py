"""A uv workspace as it is at a revision: its lock, who owns its files, its code locations."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from headrace.affected.file_owners import Owners, Rules, claims_of, parsed, rules_of
from headrace.cli.user_errors import UserError
from headrace.tools.git import Repository
from headrace.tools.uv_lock import Lock, LockError
from headrace.workspace_file import WORKSPACE, parse_workspace_file

LOCK = "uv.lock"
PYPROJECT = "pyproject.toml"


@dataclass(frozen=True)
class Location:
    """A code location.

    Args:
        name: its name.
        member: the member that it loads; None where that is not to be told.
    """

    name: str
    member: str | None


@dataclass(frozen=True)
class WorkspaceRevision:
    """A workspace at a revision. What cannot be read there is None: a change may have broken it.

    Args:
        lock: its lock.
        owners: who owns which file, where the lock says what members there are.
        locations: its code locations.
        rules: the rules by which it reads a changed file.
        unreadable: each `pyproject.toml` of a member that is broken or gone; with one, uv installs no member.
    """

    lock: Lock | None
    owners: Owners | None
    locations: Sequence[Location] | None
    rules: Rules
    unreadable: Collection[str]

    @classmethod
    def read(cls, repository: Repository, commit: str | None, rules: Rules | None = None) -> "WorkspaceRevision":
        """Return the workspace at a commit, or in the working tree.

        Args:
            repository: the repository.
            commit: a commit, or `WORKING_TREE`.
            rules: rules in place of its own, for the revision before: what is wrong there may be mended since.

        Raises:
            UserError: a table `[tool.headrace]` says what there is not.
        """
        texts = repository.texts(commit, (LOCK, PYPROJECT, WORKSPACE))
        lock = _lock(texts.get(LOCK))
        folders = lock.members if lock else {}
        files = {name: PYPROJECT if folder == "." else f"{folder}/{PYPROJECT}" for name, folder in folders.items()}
        found = repository.texts(commit, files.values())
        read = {name: parsed(found.get(file)) for name, file in files.items()}
        pyprojects = {name: pyproject or {} for name, pyproject in read.items()}
        claims = {
            name: _claims(pyproject, files[name], before=rules is not None) for name, pyproject in pyprojects.items()
        }
        rules = rules or rules_of(parsed(texts.get(PYPROJECT)) or {}, PYPROJECT)
        return cls(
            lock=lock,
            owners=Owners(folders, claims, rules) if lock else None,
            locations=_locations(texts.get(WORKSPACE, "load_from: []"), folders, pyprojects),
            rules=rules,
            unreadable={files[name] for name, pyproject in read.items() if not pyproject},
        )


@lru_cache(maxsize=2)  # both revisions have the same one where the change is of something else
def _lock(text: str | None) -> Lock | None:
    try:
        return Lock(text) if text is not None else None
    except LockError:
        return None


def _claims(pyproject: Mapping[str, Any], where: str, *, before: bool) -> Sequence[str]:
    try:
        return claims_of(pyproject, where)
    except UserError:
        if before:
            return ()
        raise


def _locations(
    text: str, folders: Mapping[str, str], pyprojects: Mapping[str, Mapping[str, Any]]
) -> Sequence[Location] | None:
    try:
        entries = parse_workspace_file(text, WORKSPACE)
    except UserError:
        return None
    modules = {_module(name, pyprojects[name]): name for name in folders}
    locations = []
    for entry in entries:
        inside = (name for name, folder in folders.items() if folder != "." and entry.target.startswith(f"{folder}/"))
        member = modules.get(entry.module.partition(".")[0]) if entry.module else next(inside, None)
        locations.append(Location(entry.name, member))
    return locations


def _module(name: str, pyproject: Mapping[str, Any]) -> str:
    """Return the module of a member: the one that dg loads, or else that of its distribution's name."""
    project = pyproject.get("tool", {}).get("dg", {}).get("project", {})
    return str(project.get("root_module") or name.replace("-", "_").replace(".", "_")).partition(".")[0]
