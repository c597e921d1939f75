"""What a release is made of at a revision: a location or the platform, its member, and the member's dbt project."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from headrace.affected.dbt_changes import PROJECT
from headrace.affected.workspace_revision import LOCK, WorkspaceRevision
from headrace.cli.user_errors import UserError
from headrace.releases.release import PLATFORM
from headrace.tools.git import WORKING_TREE, Repository
from headrace.tools.uv_lock import Closure
from headrace.workspace_file import WORKSPACE, Entry, parse_workspace_file

PLATFORM_MEMBER = "headrace"
"""Its dependencies are the webserver, the daemon and what keeps their processes."""


@dataclass(frozen=True)
class Subject:
    """What is released.

    Args:
        location: its name.
        kind: whether it is a code location.
        member: the workspace member.
        module: what the code server loads; the platform has none.
        closure: what the member is installed with, all of its extras too.
        folders: the folder of each member in the closure, by its name.
        dbt_project: the folder of the member's dbt project; None where it has none.
    """

    location: str
    kind: Literal["location", "platform"]
    member: str
    module: str | None
    closure: Closure
    folders: dict[str, str]
    dbt_project: str | None

    @classmethod
    def of(cls, repository: Repository, commit: str, location: str) -> "Subject":
        """Find it at a commit.

        Raises:
            UserError: there is no such location, or it cannot be released.
        """
        revision = WorkspaceRevision.read(repository, commit)
        short = commit[:12]
        if revision.lock is None:
            raise UserError(f"{LOCK} at {short}: no readable uv lock: run `uv lock` and commit it")
        if location == PLATFORM:
            member, module = PLATFORM_MEMBER, None
            if member not in revision.lock.members:
                raise UserError(f"{PLATFORM}: {LOCK} at {short} has no member {member}: add it, and run `uv lock`")
        else:
            modules = _modules(repository, commit)
            if location not in modules:
                raise _unknown(repository, location, short, sorted(modules))
            module = modules[location]
            found = {place.name: place.member for place in revision.locations or ()}.get(location)
            if found is None:
                raise UserError(
                    f"{location}: no member in {LOCK} at {short} has {module}: run `uv lock`, and commit it"
                )
            member = found
        closure = revision.lock.closure(member, tested=False)
        return cls(
            location=location,
            kind="platform" if module is None else "location",
            member=member,
            module=module,
            closure=closure,
            folders={name: folder for name, folder in revision.lock.members.items() if name in closure.members},
            dbt_project=_dbt_project(repository, commit, revision, member) if module else None,
        )


def _modules(repository: Repository, commit: str | None) -> dict[str, str]:
    """Return the module of each location that is one: others cannot be installed.

    Raises:
        UserError: the workspace file is not to be read, or names an attribute, which no release keeps.
    """
    text = repository.texts(commit, [WORKSPACE]).get(WORKSPACE, "load_from: []")
    entries = parse_workspace_file(text, f"{WORKSPACE} at {(commit or 'present')[:12]}")
    modules = [entry for entry in entries if entry.kind == "python_module"]
    return {entry.name: _whole(entry) for entry in modules}


def _whole(entry: Entry) -> str:
    if entry.attribute:
        raise UserError(
            f"{entry.name}: {WORKSPACE} names its attribute {entry.attribute}, and a release serves a module: "
            "give the module one entry point, and name no attribute"
        )
    return entry.target


def _unknown(repository: Repository, location: str, short: str, known: Sequence[str]) -> UserError:
    if location in _modules(repository, WORKING_TREE):
        return UserError(f"{location}: {WORKSPACE} has it, but not yet at {short}: commit it")
    names = ", ".join([*known, PLATFORM])
    return UserError(f"{location}: not a `python_module` in {WORKSPACE} at {short}: choose one of {names}")


def _dbt_project(repository: Repository, commit: str, revision: WorkspaceRevision, member: str) -> str | None:
    """Return the dbt project in a member's folder or claimed by it, as `headrace affected` finds it.

    Raises:
        UserError: there are several.
    """
    owners = revision.owners
    files = [path for path in repository.named(commit, PROJECT) if owners and member in owners.claimants(path)]
    if len(files) > 1:
        raise UserError(f"{member}: it has several dbt projects, {', '.join(files)}: a release can have only one")
    return (files[0].rpartition("/")[0] or ".") if files else None
