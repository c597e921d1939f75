"""Builds what a change affects into a file of its own, with dbt, on top of production."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from headrace.cli.user_errors import UserError
from headrace.dbt_ci.warehouse import Warehouse, relation_of
from headrace.dbt_ci.windows import Window
from headrace.tools.dbt import Dbt

BUILT = ("model", "seed", "snapshot")
_RESULTS = ("LogModelResult", "LogSeedResult", "LogSnapshotResult", "LogTestResult", "LogUnitTestResult")
_FINE = ("success", "pass")


@dataclass(frozen=True)
class Choice:
    """What CI builds of a project.

    Args:
        manifest: the manifest, in which nodes are of the file that CI builds in.
        state: production's manifest.
        changed: the nodes that changed themselves.
        chosen: the nodes to build and the tests to run.
    """

    manifest: Mapping[str, Any]
    state: Mapping[str, Any]
    changed: Collection[str]
    chosen: Collection[str]

    @property
    def built(self) -> Sequence[Mapping[str, Any]]:
        """Return the models, seeds and snapshots that are built as a relation."""
        nodes = (self.manifest["nodes"][name] for name in sorted(self.chosen) if name in self.manifest["nodes"])
        kept = (node for node in nodes if node["resource_type"] in BUILT)
        return [node for node in kept if node["config"].get("materialized") != "ephemeral"]

    @property
    def deleted(self) -> Sequence[Mapping[str, Any]]:
        """Return production's models, seeds and snapshots that there are no more."""
        return [
            node
            for name, node in sorted(self.state["nodes"].items())
            if node["resource_type"] in BUILT
            and name not in self.manifest["nodes"]
            and node["config"].get("materialized") != "ephemeral"
        ]

    def in_production(self, node: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return production's node of a node, None where it has none."""
        found: Mapping[str, Any] | None = self.state["nodes"].get(node["unique_id"])
        return found

    def selection(self, kinds: Collection[str]) -> Sequence[str]:
        """Return dbt's selectors of the chosen nodes of these kinds."""
        nodes = {**self.manifest["nodes"], **self.manifest["unit_tests"]}
        return [
            f"fqn:{'.'.join(nodes[name]['fqn'])}"
            for name in sorted(self.chosen)
            if name in nodes and nodes[name]["resource_type"] in kinds
        ]

    def refuse_outside(self, warehouse: Warehouse, *, with_hooks: bool) -> None:
        """Refuse what would not be written where CI builds.

        Args:
            warehouse: production, and where CI builds.
            with_hooks: whether the project's hooks may run, of which nobody knows what they write.

        Raises:
            UserError: a model is materialized as a file, or something as a relation elsewhere, or there are hooks that
                could write production.
        """
        for node in self.built:
            if node["config"].get("materialized") == "external":
                raise UserError(
                    f"{node['original_file_path']}: materialized='external' writes a file that may be production's: "
                    f"leave it out with --exclude {node['name']}"
                )
        for node in self._selected():
            if _is_stored(node) and not warehouse.holds(node):
                raise UserError(
                    f"{node['original_file_path']}: it would be built as {relation_of(node)}, which may be "
                    "production's: let its config say no database, and the project's generate_schema_name begin with "
                    f"the target's schema, or leave it out with --exclude {node['name']}"
                )
            if warehouse.may_write_production and not with_hooks and _has_hooks(node):
                raise UserError(
                    f"{node['original_file_path']}: {node['name']} has a hook, which may write production: "
                    "call it with --hooks where none does"
                )
        if warehouse.may_write_production and not with_hooks:
            hooks = [node for node in self.manifest["nodes"].values() if node["resource_type"] == "operation"]
            if hooks:
                raise UserError(
                    f"{hooks[0]['original_file_path']}: {hooks[0]['name']} may write production: "
                    "call it with --hooks where no hook does"
                )

    def _selected(self) -> Iterator[Mapping[str, Any]]:
        """Yield what dbt builds for these selectors: `fqn:shop.orders` names the folder `orders` too."""
        nodes = self.manifest["nodes"]
        chosen = {tuple(nodes[name]["fqn"]) for name in self.chosen if name in nodes}
        for node in nodes.values():
            fqn = tuple(node["fqn"])
            if any(fqn[:length] in chosen for length in range(1, len(fqn) + 1)):
                yield node


@dataclass
class Results:
    """What dbt's commands said.

    Args:
        statuses: the status of each node.
        messages: what dbt says of it.
    """

    statuses: dict[str, str] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)


def prepare(choice: Choice, warehouse: Warehouse) -> None:
    """Put into the file what a build goes on from: production's rows of incremental models and snapshots.

    An incremental model is built on its present rows, as it will be in production: its readers then see all of history,
    of which the window is new. A source that is a table of the database is looked through to production's, since dbt
    defers no sources.
    """
    with warehouse.written():
        for node in choice.built:
            before = choice.in_production(node)
            is_kept = node["config"].get("materialized") in ("incremental", "snapshot")
            if before and is_kept and warehouse.columns(relation_of(before)):
                warehouse.copy(relation_of(before), node)
        for name, source in sorted(choice.manifest["sources"].items()):
            before = choice.state["sources"].get(name)
            is_table = source["relation_name"] == relation_of(source) and warehouse.holds(source)
            if before and is_table and warehouse.columns(relation_of(before)):
                warehouse.look_through(relation_of(before), source)


@dataclass(frozen=True)
class Builder:
    """dbt on a project, building into the file.

    Args:
        dbt: the command.
        project: the folder of `dbt_project.yml`.
        root: the folder of the workspace.
        state: the folder of production's manifest.
        target: a folder for what dbt writes.
        say: takes a line of progress.
    """

    dbt: Dbt
    project: Path
    root: Path
    state: Path
    target: Path
    say: Callable[[str], None]

    def build(self, choice: Choice, window: Window | None) -> Results:
        """Build the chosen nodes, and run their tests.

        Unit tests bring their own window, which the window's variables would overrule: they run without.

        Raises:
            click.ClickException: dbt cannot run at all; the message is its own.
        """
        results = Results()
        commands = [("build", (*BUILT, "test"), window.flags() if window else ()), ("test", ("unit_test",), ())]
        for command, kinds, flags in commands:
            selection = choice.selection(kinds)
            if selection:
                defer = ["--defer", "--state", str(self.state.resolve()), "--indirect-selection", "empty"]
                kept = (
                    ["--resource-type", "unit_test"] if command == "test" else ["--exclude-resource-type", "unit_test"]
                )
                self._run([command, *flags, *defer, *kept, "--select", *selection], results)
        return results

    def _run(self, command: Sequence[str], results: Results) -> None:
        artifact = self.target / "run_results.json"
        artifact.unlink(missing_ok=True)
        errors = []
        events = self.dbt.events(command, self.project, self.target, root=self.root)
        with closing(events):
            for event in events:
                if event["info"]["level"] == "error":
                    errors.append(" ".join(event["info"]["msg"].split()))
                self._tell(event)
        if not artifact.is_file():
            said = [line for line in errors if not line.endswith("Encountered an error:")]
            raise click.ClickException(f"{self.project}: dbt {command[0]} failed: {' '.join(said) or 'no output'}")
        for result in json.loads(artifact.read_text(encoding="utf-8"))["results"]:
            results.statuses[result["unique_id"]] = result["status"]
            results.messages[result["unique_id"]] = result["message"] or ""

    def _tell(self, event: Mapping[str, Any]) -> None:
        data = event["data"]
        if event["info"]["name"] in _RESULTS and "index" in data:
            total = data.get("total") or data.get("num_models")  # a test's event has the second
            name = data.get("node_info", {}).get("node_name", "")
            self.say(f"{data['index']} of {total} {name}: {data['status']} in {data['execution_time']:.1f} s")


def _is_stored(node: Mapping[str, Any]) -> bool:
    """Return whether dbt makes a relation of a node: of a test where its failures are stored."""
    config = node["config"]
    if node["resource_type"] == "test":
        return bool(config.get("store_failures")) or config.get("store_failures_as") in ("table", "view")
    return node["resource_type"] in BUILT and config.get("materialized") != "ephemeral"


def _has_hooks(node: Mapping[str, Any]) -> bool:
    return node["resource_type"] in BUILT and any(node["config"].get(name) for name in ("pre-hook", "post-hook"))


def is_fine(status: str | None) -> bool:
    """Return whether a status is that of a node that was built, or of a test that passed."""
    return status in _FINE
