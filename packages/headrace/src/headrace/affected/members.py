"""Which members a change touches, and by which ways: files, the lock, and what members have of each other."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.affected.file_owners import Bearing, is_deployed_alike, is_locked_alike, parsed
from headrace.affected.workspace_revision import LOCK, PYPROJECT, Location, WorkspaceRevision
from headrace.tools.git import Change, Repository
from headrace.tools.uv_lock import Closure, Lock

Chain = tuple[str, ...]
"""A way by which a change touches a member: a file, what is between, the member. The last is the member."""


@dataclass(frozen=True)
class Difference:
    """What differs between two revisions of a workspace.

    Args:
        base: the workspace before.
        head: the workspace now.
        bearings: what each changed file bears on, in order of the paths; `uv.lock` is compared, and not among them.
        lock_changed: whether `uv.lock` is among the changed files.
    """

    base: WorkspaceRevision
    head: WorkspaceRevision
    bearings: Mapping[str, frozenset[Bearing]]
    lock_changed: bool

    @classmethod
    def between(cls, repository: Repository, base: str, head: str | None) -> "Difference":
        """Return what differs between two commits, or a commit and the working tree.

        Raises:
            UserError: git fails, or a table `[tool.headrace]` says what there is not.
        """
        changes = repository.changes(base, head)
        after = WorkspaceRevision.read(repository, head)
        before = WorkspaceRevision.read(repository, base, after.rules)
        rewritten = _rewritten(repository, changes, base, head)
        bearings = {}
        for change in changes:
            if change.path != LOCK:
                found = {
                    bearing
                    for owners, there in ((before.owners, change.before), (after.owners, change.after))
                    if owners and there
                    for bearing in owners.of(change.path, kept=change.after)
                }
                if change.path in rewritten and is_deployed_alike(*rewritten[change.path]):
                    found = {Bearing(bearing.member, bearing.why, deployed=False) for bearing in found}
                if change.path in after.unreadable:
                    found.add(Bearing(None, "not readable by uv"))
                if change.path in rewritten and not is_locked_alike(*rewritten[change.path]):
                    found |= _not_locked(change.path, before, after)
                bearings[change.path] = frozenset(found)
        return cls(before, after, bearings, lock_changed=any(change.path == LOCK for change in changes))

    @property
    def locations(self) -> Sequence[Location]:
        """Return the code locations: the head's, or the base's where the change broke `workspace.yaml`."""
        found = self.head.locations if self.head.locations is not None else self.base.locations
        return found or ()

    def reaching(self, member: str) -> set[str]:
        """Return the changed files that a member's deploy has: its own, its dependencies', and what bears on all."""
        locks = [lock for lock in (self.base.lock, self.head.lock) if lock and member in lock.members]
        around = {name for lock in locks for name in lock.closure(member, tested=False).members}
        return {
            path
            for path, bearings in self.bearings.items()
            if any(bearing.deployed and (bearing.member is None or bearing.member in around) for bearing in bearings)
        }

    @property
    def lock(self) -> Lock | None:
        """Return the lock that says what members there are: the head's, or the base's where the change broke it."""
        return self.head.lock or self.base.lock


def touched(difference: Difference, *, tested: bool) -> Mapping[str, Sequence[Chain]]:
    """Return the members that are touched, each with the ways to it, the shortest first.

    Args:
        difference: the change.
        tested: whether it is asked what to test; else what is deployed, which has no dependency groups and no tests.
    """
    lock = difference.lock
    if lock is None:
        return {}
    files = _Files.of(difference, tested=tested)
    locks = _Locks(difference, tested=tested)
    found = {}
    for member in lock.members:
        if tested or member != lock.root:
            closures = locks.closures(member)
            chains = {*files.chains(member, closures), *locks.chains(member, closures)}
            found[member] = sorted(chains, key=lambda chain: (len(chain), chain))
    return {member: chains for member, chains in found.items() if chains}


@dataclass(frozen=True)
class _Files:
    """The first file of each kind.

    Args:
        all: that bears on every member, by the reason.
        owned: that bears on a member and on what depends on it.
        tests: that bears on a member alone.
    """

    all: Mapping[str, str]
    owned: Mapping[str, str]
    tests: Mapping[str, str]

    @classmethod
    def of(cls, difference: Difference, *, tested: bool) -> "_Files":
        everyone: dict[str, str] = {}
        owned: dict[str, str] = {}
        tests: dict[str, str] = {}
        for path, bearings in difference.bearings.items():
            for bearing in bearings:
                if bearing.member is None and (tested or bearing.deployed):
                    everyone.setdefault(bearing.why, path)
                elif bearing.member and bearing.deployed:
                    owned.setdefault(bearing.member, path)
                elif bearing.member and tested:
                    tests.setdefault(bearing.member, path)
        return cls(everyone, owned, tests)

    def chains(self, member: str, closures: Iterable[Closure]) -> Iterator[Chain]:
        for why, path in self.all.items():
            yield path, why, member
        if member in self.tests:
            yield self.tests[member], member
        for closure in closures:
            for dependency, way in closure.members.items():
                if dependency in self.owned:
                    yield self.owned[dependency], *reversed(way)


class _Locks:
    """The closures of both revisions."""

    def __init__(self, difference: Difference, *, tested: bool) -> None:
        self._base, self._head = difference.base.lock, difference.head.lock
        self._changed = difference.lock_changed
        self._tested = tested
        tools = self._head.tools.changed(self._base.tools) if self._base and self._head and self._changed else []
        self._tools = tools if tested else []

    def closures(self, member: str) -> Sequence[Closure]:
        """Return the member's closures, the base's first; one of them where they cannot differ."""
        locks = [self._base, self._head] if self._changed else [self._head]
        return [lock.closure(member, tested=self._tested) for lock in locks if lock and member in lock.members]

    def chains(self, member: str, closures: Sequence[Closure]) -> Iterator[Chain]:
        """Yield why the lock touches the member, the same closures given."""
        if self._head is None or self._base is None:
            yield LOCK, f"unreadable {'now' if self._base else 'before'}", member
            return
        if self._changed:
            changes = closures[1].changed(closures[0]) if len(closures) > 1 else [f"{member} is new"]
            tools = [] if self._has_own_tools(member) else self._tools
            for lines in (changes, tools):
                if lines:
                    yield LOCK, lines[0] + (f" and {len(lines) - 1} more" if lines[1:] else ""), member

    def _has_own_tools(self, member: str) -> bool:
        """Return whether a member is tested with a dependency group of its own, then and now; else with the root's."""
        locks = [lock for lock in (self._base, self._head) if lock and member in lock.members]
        return all(lock.has_groups(member) for lock in locks)


def _rewritten(
    repository: Repository, changes: Iterable[Change], base: str, head: str | None
) -> Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Return what each changed `pyproject.toml` said and says, where both can be read."""
    paths = [
        change.path
        for change in changes
        if change.before and change.after and change.path.rpartition("/")[2] == PYPROJECT
    ]
    before, after = repository.texts(base, paths), repository.texts(head, paths)
    pairs = {path: (parsed(before.get(path)), parsed(after.get(path))) for path in paths}
    return {path: (old, new) for path, (old, new) in pairs.items() if old and new}


def _not_locked(path: str, before: WorkspaceRevision, after: WorkspaceRevision) -> set[Bearing]:
    """Return that a member's `pyproject.toml` bears on all tests, where the lock says of the member what it said.

    `uv run --locked` then fails, of whatever member; what is deployed is exported from the lock as it is.
    """
    if before.lock is None or after.lock is None:
        return set()
    folder = path.rpartition("/")[0]  # the root's bears on all by itself
    stale = any(
        where == folder and name in before.lock.members and before.lock.declared(name) == after.lock.declared(name)
        for name, where in after.lock.members.items()
    )
    return {Bearing(None, "not locked", deployed=False)} if stale else set()
