"""Which nodes of a dbt project a change affects, from the manifests of both revisions."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from posixpath import normpath
from tempfile import TemporaryDirectory
from typing import Any

import click
import yaml

from headrace.affected.dbt_sources import sources_declared_otherwise
from headrace.affected.dbt_state import (
    all_nodes,
    bears_on_every_node,
    below_macros,
    changed_macros,
    missed,
    told_by_code,
    with_children,
)
from headrace.cli.user_errors import UserError
from headrace.tools.dbt import BaseError, Dbt, Parse, read_manifest
from headrace.tools.uv_lock import Lock

PROJECT = "dbt_project.yml"


@dataclass(frozen=True)
class DbtProject:
    """A dbt project of the workspace.

    Args:
        folder: its folder, relative to the workspace's root.
        members: the members that it belongs to.
    """

    folder: str
    members: Collection[str]

    def inside(self, paths: Collection[str]) -> set[str]:
        """Return those of these paths that are in the project, relative to its folder."""
        prefix = "" if self.folder == "." else f"{self.folder}/"
        return {path.removeprefix(prefix) for path in paths if path.startswith(prefix)}


@dataclass(frozen=True)
class AffectedNodes:
    """What a change affects of a project.

    Args:
        nodes: unique ids.
        macro_files: the files of its macros, relative to the workspace's root; some are in other members.
        changed: those of the nodes that changed themselves; the others depend on them.
        manifest: the manifest of the project as it is now.
    """

    nodes: set[str]
    macro_files: set[str]
    changed: set[str]
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """The two sides that are compared.

    Args:
        head: the folder of the workspace as it is now.
        base: checks the workspace out as it was, and gives its folder.
        state: the folder of the manifest before, where there is one; else it is made at the base.
        changed: the changed files, relative to the workspace's root.
        texts: gives the texts before and now of those of these files that were or are there.
    """

    head: Path
    base: Callable[[], AbstractContextManager[Path]]
    state: Path | None
    changed: Collection[str]
    texts: Callable[[Collection[str]], tuple[Mapping[str, str], Mapping[str, str]]]

    def declarations(self, project: DbtProject) -> tuple[Collection[str], Collection[str]]:
        """Return the texts before and now of the project's YAML files that changed."""
        files = [path for path in self.changed if path.endswith((".yml", ".yaml")) and project.inside([path])]
        before, now = self.texts(files)
        return before.values(), now.values()


def affected_nodes(project: DbtProject, comparison: Comparison, dbt: Dbt, *, everything: bool) -> AffectedNodes:
    """Return the nodes that changed, with all that depends on them.

    They are all of them where there is no manifest to compare with: the project is new, or could not be parsed.

    Args:
        project: the project.
        comparison: what is compared.
        dbt: the command.
        everything: whether something changed that bears on every node, such as the version of dbt.

    Raises:
        click.ClickException: dbt cannot parse the project as it is now.
        UserError: the folder of the manifest before has none.
    """
    folder = comparison.head / project.folder
    changed = project.inside(comparison.changed)
    if comparison.state and not (comparison.state / "manifest.json").is_file():
        raise UserError(f"--state {comparison.state}: there is no manifest.json: give the target folder of a dbt run")
    with TemporaryDirectory(prefix="headrace-dbt-") as temporary:
        before, now = Path(temporary) / "before", Parse(folder, Path(temporary) / "now", comparison.head)
        state = comparison.state or before
        modified = None if everything else _modified(project, comparison, dbt, before, now)
        if modified is None:
            head = dbt.parse(folder, now.target, root=now.root)
            return AffectedNodes(all_nodes(head), _macro_files(project, head), all_nodes(head), head)
        base, head = read_manifest(state), read_manifest(now.target)
        nodes = (modified - head["sources"].keys()) | missed(base, head, changed)
        versioned = told_by_code(nodes, base, head, modified=modified)
        nodes -= _alike(base, head, dbt.of_one_code_version(state, now, versioned) if versioned else None)
    sources = sources_declared_otherwise(*comparison.declarations(project), head["metadata"]["project_name"])
    nodes |= sources & head["sources"].keys()
    files = _macro_files(project, base) | _macro_files(project, head)
    return AffectedNodes(with_children(nodes, head), files, nodes, head)


def is_engine_changed(base: Lock, head: Lock, members: Collection[str]) -> bool:
    """Return whether these members have another dbt now: dbt-core, an adapter, or the database's own client.

    Args:
        base: the lock before.
        head: the lock now.
        members: their names.
    """
    for member in members:
        if member not in base.members or member not in head.members:
            return True
        before, now = base.closure(member, tested=False), head.closure(member, tested=False)
        packages = {name for name in (*before.packages, *now.packages) if name.startswith("dbt-")}
        for lock in (base, head):
            for name in list(packages):
                needs = lock.dependencies(name)
                # An adapter is what depends on dbt-adapters, as dbt-core does.
                packages |= set(needs) if "dbt-adapters" in needs and name != "dbt-core" else set()
        if any(before.packages.get(name) != now.packages.get(name) for name in packages):
            return True
    return False


def is_configured_otherwise(before: str | None, after: str | None) -> bool:
    """Return whether two texts of a `dbt_project.yml` differ in what bears on every node."""
    try:
        sides: Sequence[Mapping[str, Any]] = [yaml.safe_load(text or "") or {} for text in (before, after)]
        return bears_on_every_node(*sides)
    except (yaml.YAMLError, AttributeError, ValueError):
        return True


def _alike(base: Mapping[str, Any], head: Mapping[str, Any], said: Mapping[str, Collection[str]] | None) -> set[str]:
    """Return the nodes that compute what they did, though a text is another one: a comment, or a blank.

    It is what the plan of `headrace run` and Dagster's automation take for the same code. A macro that a code version
    does not count, such as one of dagster-dbt-common or one that dbt calls by itself, changes what is below it.

    Args:
        base: the manifest before.
        head: the manifest now.
        said: the nodes of one code version, with the macros that it counts.
    """
    if not said:
        return set()
    above = below_macros(base, head, changed_macros(base, head))
    return {node for node, counted in said.items() if set(above.get(node, ())) <= set(counted)}


def _modified(project: DbtProject, comparison: Comparison, dbt: Dbt, before: Path, now: Parse) -> set[str] | None:
    """Return what dbt says is modified; None where there was no project, or none that dbt can parse.

    Args:
        project: the project.
        comparison: what is compared.
        dbt: the command.
        before: a folder for the manifest before, where it is to be made.
        now: the project as it is now.
    """
    if comparison.state:
        return dbt.modified(now.project, now.target, comparison.state, root=now.root)
    with comparison.base() as root:
        if not (root / project.folder / PROJECT).is_file():
            return None
        try:
            return dbt.modified_since(Parse(root / project.folder, before, root), now)
        except BaseError as error:
            click.echo(f"the base cannot be compared, so every dbt node counts: {error.format_message()}", err=True)
            return None


def _macro_files(project: DbtProject, manifest: Mapping[str, Any]) -> set[str]:
    name = manifest["metadata"]["project_name"]
    files = {macro["original_file_path"] for macro in manifest["macros"].values() if macro["package_name"] == name}
    return {normpath(str(PurePosixPath(project.folder) / file)) for file in files}
