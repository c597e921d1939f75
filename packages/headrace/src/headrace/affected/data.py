"""Which dbt nodes and which assets of all code locations a change affects."""

import os
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import click

from headrace.affected.asset_graph import AssetGraph
from headrace.affected.dbt_changes import (
    PROJECT,
    AffectedNodes,
    Comparison,
    DbtProject,
    affected_nodes,
    is_configured_otherwise,
    is_engine_changed,
)
from headrace.affected.members import Chain, Difference
from headrace.affected.workspace_revision import LOCK
from headrace.cli.user_errors import UserError
from headrace.locations.describe import loadable
from headrace.tools.dbt import Dbt
from headrace.tools.git import WORKING_TREE, Repository
from headrace.workspace import Workspace
from headrace.workspace_file import WORKSPACE, read_workspace_file


@dataclass(frozen=True)
class Revisions:
    """What is compared.

    Args:
        repository: the repository.
        base: a commit.
        head: a commit, or `WORKING_TREE`.
        state: the folder of the manifest before, where there is one.
    """

    repository: Repository
    base: str
    head: str | None
    state: Path | None


def affected_data(
    difference: Difference, deployed: Mapping[str, Sequence[Chain]], revisions: Revisions
) -> tuple[Sequence[str], Sequence[str]]:
    """Return the affected dbt nodes and the affected asset keys, each in order.

    Where the code of a location is touched, all that it makes counts; where only its dbt files are, their nodes do.
    Then comes all that is made from those, in whatever location.

    Args:
        difference: what changed.
        deployed: the members that are touched as they are deployed.
        revisions: what is compared.

    Raises:
        click.ClickException: a location does not load, or dbt cannot parse the project.
        UserError: there is no dbt to run, or several projects for one manifest.
    """
    touched = {location.name: location.member for location in difference.locations if location.member in deployed}
    projects = dbt_projects(difference, revisions)
    waiting = [project for project in projects if _bears_on(difference, project, touched)]
    if revisions.state and len(projects) > 1:
        folders = ", ".join(project.folder for project in projects)
        raise UserError(
            f"--state {revisions.state}: it is the manifest of one dbt project, "
            f"and the workspace has {folders}: leave it out"
        )
    if not touched and not waiting:
        return [], []
    if difference.head.locations is None:
        raise click.ClickException(f"{revisions.repository.root / WORKSPACE}: no list of code locations: correct it")
    with _checked_out(difference, revisions) as (root, environment), ThreadPoolExecutor() as pool:
        locations = {entry.name: entry for entry in read_workspace_file(root)}
        workspace = replace(Workspace.find(), root=root, locations=locations)
        loading = pool.submit(AssetGraph.load, workspace, list(loadable(workspace).values()), environment)
        nodes = [
            nodes_of(project, difference, revisions, root, dbt_of(project, difference, workspace, revisions))
            for project in waiting
        ]
        graph = loading.result()
    dbt_files = {file for found in nodes for file in found.macro_files}
    dbt_files |= {path for project in projects for path in difference.bearings if project.inside([path])}
    made = {
        key
        for location, member in touched.items()
        if member and (_lock_touches(deployed[member]) or difference.reaching(member) - dbt_files)
        for key in graph.made.get(location, ())
    }
    ids = {unique_id for found in nodes for unique_id in found.nodes}
    keys = {graph.by_node[unique_id] for unique_id in ids if unique_id in graph.by_node}
    return sorted(ids), sorted(graph.downstream(made | keys))


def dbt_projects(difference: Difference, revisions: Revisions) -> Sequence[DbtProject]:
    """Return the dbt projects of code locations; those of tests and benchmarks belong to none."""
    owners = difference.head.owners or difference.base.owners
    locations = {location.member for location in difference.locations}
    found = []
    for path in revisions.repository.named(revisions.head, PROJECT):
        members = [member for member in owners.claimants(path) if member in locations] if owners else []
        if members:
            found.append(DbtProject(path.rpartition("/")[0] or ".", members))
    return found


def _bears_on(difference: Difference, project: DbtProject, touched: Mapping[str, str | None]) -> bool:
    """Return whether a change may bear on a project: on its own files, on macros elsewhere, on dbt's version."""
    if not set(project.members) & set(touched.values()):
        return False
    reaching = {path for member in project.members for path in difference.reaching(member)}
    return bool(
        project.inside(difference.bearings)
        or any(path.endswith(".sql") for path in reaching)
        or _is_engine_changed(difference, project)
    )


def nodes_of(project: DbtProject, difference: Difference, revisions: Revisions, root: Path, dbt: Dbt) -> AffectedNodes:
    """Return the nodes of a dbt project that a change affects.

    Args:
        project: the project.
        difference: what changed.
        revisions: what is compared.
        root: the folder of the workspace as it is now.
        dbt: the command.

    Raises:
        click.ClickException: dbt cannot parse the project.
        UserError: the folder of the manifest before has none.
    """
    repository = revisions.repository
    config = PROJECT if project.folder == "." else f"{project.folder}/{PROJECT}"

    def texts(paths: Collection[str]) -> tuple[Mapping[str, str], Mapping[str, str]]:
        return repository.texts(revisions.base, paths), repository.texts(revisions.head, paths)

    configured = (side.get(config) for side in texts([config]))
    everything = _is_engine_changed(difference, project) or is_configured_otherwise(*configured)
    comparison = Comparison(
        head=root,
        base=lambda: repository.worktree(revisions.base),
        state=revisions.state,
        changed=set(difference.bearings),
        texts=texts,
    )
    return affected_nodes(project, comparison, dbt, everything=everything)


def dbt_of(project: DbtProject, difference: Difference, workspace: Workspace, revisions: Revisions) -> Dbt:
    """Return the dbt command of the locations that a project belongs to.

    Raises:
        UserError: there is none.
    """
    names = {location.name for location in difference.locations if location.member in project.members}
    pythons = {
        name: entry.python(workspace.root, sys.executable)
        for name, entry in loadable(workspace).items()
        if name in names
    }
    return Dbt(_executable(pythons), revisions.repository.root)


def _is_engine_changed(difference: Difference, project: DbtProject) -> bool:
    base, head = difference.base.lock, difference.head.lock
    if base is None or head is None:
        return True
    return difference.lock_changed and is_engine_changed(base, head, project.members)


def _executable(pythons: Mapping[str, str]) -> Path:
    """Return dbt beside the interpreter of a location, or else on PATH."""
    beside = (Path(python).parent / "dbt" for python in pythons.values() if os.sep in python)
    found = next((path for path in beside if path.is_file()), None) or shutil.which("dbt")
    if found is None:
        names = ", ".join(pythons)
        raise UserError(f"dbt is neither beside the interpreter of {names} nor on PATH: install what it depends on")
    return Path(found)


def _lock_touches(chains: Sequence[Chain]) -> bool:
    return any(chain[0] == LOCK for chain in chains)


@contextmanager
def _checked_out(difference: Difference, revisions: Revisions) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """Give the folder of the head, and the environment in which its members are those of that folder."""
    if revisions.head is WORKING_TREE:
        yield revisions.repository.root, {}
        return
    with revisions.repository.worktree(revisions.head) as root:
        folders = difference.lock.members.values() if difference.lock else ()
        sources: set[Path] = {root / folder / "src" for folder in folders}
        yield root, {"PYTHONPATH": os.pathsep.join(sorted(str(path) for path in sources if path.is_dir()))}
