"""Brings together what dbt said of each model, and how its rows compare with production's."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb

from headrace.dbt_ci.build import Choice, Results, is_fine
from headrace.dbt_ci.comparison import Side, compared_columns, compared_rows, sampling
from headrace.dbt_ci.keys import key_of
from headrace.dbt_ci.report import Failure, Model, Tests
from headrace.dbt_ci.warehouse import Warehouse, relation_of
from headrace.dbt_ci.windows import Window, partitions_of


@dataclass(frozen=True)
class Comparer:
    """How models are compared.

    Args:
        choice: what was built.
        results: what dbt said.
        warehouse: both databases.
        window: the window of partitioned models.
        limit: how many rows of a model are compared; of more a sample is.
        examples: how many differing rows of a model are shown.
        say: takes a line of progress.
    """

    choice: Choice
    results: Results
    warehouse: Warehouse
    window: Window | None
    limit: int
    examples: int
    say: Callable[[str], None]

    def models(self) -> Sequence[Model]:
        """Return the models that were built, and those that are deleted."""
        tests = self._tests()
        models = []
        for node in self.choice.built:
            self.say(f"comparing {node['name']}")
            models.append(replace(self._model(node), tests=tests.get(node["unique_id"], Tests())))
        return [*models, *map(self._deleted, self.choice.deleted)]

    def failures(self) -> Sequence[Failure]:
        """Return the nodes that failed; what was skipped because of them is not repeated."""
        return [found for found in self._told() if found.status not in ("warn", "skipped")]

    def warnings(self) -> Sequence[Failure]:
        """Return the tests that warn."""
        return [found for found in self._told() if found.status == "warn"]

    def _told(self) -> Iterator[Failure]:
        for unique_id, status in sorted(self.results.statuses.items()):
            if not is_fine(status):
                message = " ".join(self.results.messages[unique_id].split())
                yield Failure(unique_id, _name(unique_id), status, message)

    def _model(self, node: Mapping[str, Any]) -> Model:
        unique_id = node["unique_id"]
        before = self.choice.in_production(node)
        model = Model(
            unique_id=unique_id,
            name=node["name"],
            kind=str(node["config"].get("materialized")),
            change="new" if before is None else "changed" if unique_id in self.choice.changed else "unchanged",
            build=self.results.statuses.get(unique_id, "skipped"),
        )
        try:
            return self._compared(model, node, before)
        except duckdb.Error as error:
            # A view over an object store, of which this connection has no secrets.
            return replace(model, not_compared=f"it cannot be read: {str(error).splitlines()[0]}")

    def _compared(self, model: Model, node: Mapping[str, Any], before: Mapping[str, Any] | None) -> Model:
        old_name, new_name = relation_of(before) if before else "", relation_of(node)
        old = self.warehouse.columns(old_name) if before else None
        new = self.warehouse.columns(new_name) if is_fine(model.build) else None
        where = [self._where(node, columns) for columns in (old, new) if columns]
        model = replace(model, window=any(each != "true" for each in where))
        if old:
            model = replace(model, rows_before=Side(old_name, old, where[0]).count(self.warehouse))
        if new:
            model = replace(model, rows_after=Side(new_name, new, where[-1]).count(self.warehouse))
        if not old or not new:
            return replace(model, not_compared="it was not built" if not new else "production has none")
        counts = [model.rows_before or 0, model.rows_after or 0]
        rows = compared_rows(
            self.warehouse,
            Side(old_name, old, where[0]),
            Side(new_name, new, where[1]),
            key=key_of(node, self.choice.manifest),
            one_in=sampling(counts, self.limit),
            examples=self.examples,
        )
        return replace(model, columns=compared_columns(old, new), rows=rows)

    def _where(self, node: Mapping[str, Any], columns: Mapping[str, str]) -> str:
        partitions = partitions_of(node)
        if self.window is None or partitions is None or not partitions.column or partitions.column not in columns:
            return "true"
        return self.window.predicate(partitions, columns[partitions.column])

    def _deleted(self, node: Mapping[str, Any]) -> Model:
        rows = None
        relation = relation_of(node)
        if columns := self.warehouse.columns(relation):
            rows = Side(relation, columns).count(self.warehouse)
        kind = str(node["config"].get("materialized"))
        return Model(node["unique_id"], node["name"], kind, "deleted", None, rows_before=rows)

    def _tests(self) -> Mapping[str, Tests]:
        """Return the tests of each built model: of the one that it is attached to, or else of all that it reads."""
        manifest = self.choice.manifest
        nodes = {**manifest["nodes"], **manifest["unit_tests"]}
        found: dict[str, Tests] = {}
        for unique_id, status in self.results.statuses.items():
            node = nodes[unique_id]
            if node["resource_type"] in ("test", "unit_test"):
                attached = node.get("attached_node")
                for parent in [attached] if attached else node["depends_on"]["nodes"]:
                    tests = found.setdefault(parent, Tests())
                    match status:
                        case "pass" | "success":
                            tests.passed += 1
                        case "warn":
                            tests.warned += 1
                        case "skipped":
                            tests.skipped += 1
                        case _:
                            tests.failed += 1
        return found


def _name(unique_id: str) -> str:
    """Return the name of a node: `test.project.name.hash` and `unit_test.project.model.name` have a part more."""
    parts = unique_id.split(".")
    return parts[3] if parts[0] == "unit_test" and len(parts) > 3 else parts[2]  # noqa: PLR2004
