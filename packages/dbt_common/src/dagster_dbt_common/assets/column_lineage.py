"""Which columns each column of a model is made of, worked out once for what the model computes.

dagster-dbt works it out after each build, in a tenth of a second for each model, and not where a parent is ephemeral or
a source is a call such as `read_parquet(...)`. It is a fact of the code, so here a build repeats what the last one of
the same code has recorded. The UI reads it from materializations alone, so each has it. This can be deleted when
Dagster takes column lineage from definitions, and dagster-dbt makes it from the manifest.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetMaterialization,
    Output,
    TableColumnDep,
    TableColumnLineage,
    TableSchema,
    get_dagster_logger,
)
from sqlglot import exp, parse_one
from sqlglot.lineage import lineage
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import build_scope

from dagster_dbt_common.engine.relation_metadata import columns_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dagster import AssetKey, DagsterInstance
    from dagster_dbt import DbtCliInvocation, DbtProject
    from dagster_dbt.core.dbt_event_iterator import DbtDagsterEventType

    from dagster_dbt_common.assets.translator import PartitionedDbtTranslator
    from dagster_dbt_common.partitions.groups import PartitionPlan

LINEAGE = "dagster/column_lineage"
CODE = "dagster_dbt_common/column_lineage_of"
"""The metadata that says of which code the lineage is."""

_SCHEMA = "dagster/column_schema"
_VERSION = 1
"""To be raised where this works out something else of the same."""

_LAST_NAME = re.compile(r'(?:"[^"]+"|`[^`]+`|\w+)$')
_LOG = get_dagster_logger()


@dataclass(frozen=True)
class ColumnLineages:
    """The column lineage of a project's models, as their builds record it.

    Args:
        plan: the project's partition plan.
        translator: the translator of its assets.
        project: the project.
        instance: where builds are recorded.
        known: what nodes compute, as hashes; those that were asked for.
    """

    plan: PartitionPlan
    translator: PartitionedDbtTranslator
    project: DbtProject
    instance: DagsterInstance
    known: dict[str, str] = field(default_factory=dict)

    def added_to(self, event: DbtDagsterEventType, invocation: DbtCliInvocation) -> DbtDagsterEventType:
        """Return the event of a model that was built with its column lineage; any other event as it is.

        Args:
            event: as dagster-dbt makes it, with the columns of the relation.
            invocation: dbt's, whose compiled SQL is on disk.
        """
        if not isinstance(event, (Output, AssetMaterialization)):
            return event
        schema = event.metadata[_SCHEMA].value if _SCHEMA in event.metadata else None
        if not isinstance(schema, TableSchema):
            return event
        unique_id = str(event.metadata["unique_id"].value)
        if unique_id not in self.plan.lineage or not self.plan.lineage.parents(unique_id):
            return event
        code = self._code(unique_id, schema)
        found = self._recorded(self._key(unique_id), code)
        if found is None:
            lineage = self._worked_out(unique_id, schema, invocation)
            # What could not be read now may be the next time.
            found = {} if lineage is None else {CODE: code, LINEAGE: lineage}
        return event.with_metadata({**event.metadata, **found}) if found else event

    def _code(self, unique_id: str, schema: TableSchema) -> str:
        """Return a hash of all that the lineage depends on, here and in what works it out."""
        parents = [self._key(parent).path for parent in self.plan.lineage.parents(unique_id)]
        columns = [column.name for column in schema.columns]
        return _hash([_VERSION, version("sqlglot"), parents, columns, self._computes(unique_id)])

    def _computes(self, unique_id: str) -> str:
        """Return a hash of what a node and all that it is made from compute, and of what sources declare."""
        waiting = [unique_id]
        while waiting:
            current = waiting[-1]
            above = self.plan.lineage.parents(current)
            missing = [parent for parent in above if parent not in self.known]
            if missing:
                waiting += missing
                continue
            waiting.pop()
            if current in self.plan.lineage:
                own: object = self.plan.code_versions.of(current)
            else:
                own = list(self.plan.manifest["sources"].get(current, {}).get("columns", ()))
            self.known[current] = _hash([own, [self.known[parent] for parent in above]])
        return self.known[unique_id]

    def _recorded(self, key: AssetKey, code: str) -> dict[str, Any] | None:
        event = self.instance.get_latest_materialization_event(key)
        last = event.asset_materialization if event else None
        if last is None or CODE not in last.metadata or last.metadata[CODE].value != code:
            return None
        return {name: last.metadata[name] for name in (CODE, LINEAGE) if name in last.metadata}

    def _key(self, unique_id: str) -> AssetKey:
        return self.translator.get_asset_spec(self.plan.manifest, unique_id, self.project).key

    def _worked_out(
        self, unique_id: str, schema: TableSchema, invocation: DbtCliInvocation
    ) -> TableColumnLineage | None:
        props = self.plan.manifest["nodes"][unique_id]
        sql = _compiled(invocation.target_path, props)
        if sql is None:
            return None  # a seed, or a model in Python
        parents = [
            self.plan.manifest["nodes"].get(parent) or self.plan.manifest["sources"][parent]
            for parent in self.plan.lineage.parents(unique_id)
        ]
        columns = [self._columns(parent, invocation) for parent in parents]
        dialect = self.plan.manifest["metadata"]["adapter_type"]
        try:
            deps = column_deps(sql, dialect, [str(parent["relation_name"]) for parent in parents], columns)
        except Exception as error:  # a dialect's SQL that sqlglot does not take costs the lineage, and no build
            _LOG.debug(f"no column lineage of {props['name']}: {error}")
            return None
        keys = [self._key(parent["unique_id"]) for parent in parents]
        # A column that was not found is left out: an empty list says that it is made of none.
        known = {
            column.name: [TableColumnDep(keys[number], name) for number, name in deps[column.name.lower()]]
            for column in schema.columns
            if column.name.lower() in deps
        }
        return TableColumnLineage(known) if known else None

    def _columns(self, props: Mapping[str, Any], invocation: DbtCliInvocation) -> Sequence[str]:
        """Return the columns of a parent: those that the warehouse has, or else those that a source declares."""
        schema = columns_of(invocation.adapter, props) if invocation.adapter else None
        return [column.name for column in schema.columns] if schema else list(props.get("columns", ()))


def column_deps(
    sql: str, dialect: str, relations: Sequence[str], columns: Sequence[Sequence[str]]
) -> Mapping[str, Sequence[tuple[int, str]]]:
    """Return what columns of a query, in small letters, are made of, as (the number of a relation, its column).

    A column of which that is not known is left out.

    Args:
        sql: the query.
        dialect: sqlglot's name for the SQL, which is the name of dbt's adapter.
        relations: the tables that it reads, as they stand in it; a call such as `read_parquet(...)` may be one.
        columns: of each of these the columns.

    Raises:
        sqlglot.errors.SqlglotError: it does not take the query.
        ValueError: it would take columns for others, as those of a union by name.
    """
    # Each by a schema of its own, and by its own name, which the query may use for an alias.
    schemas = [f"relation_of_dbt_{number}" for number in range(len(relations))]
    tables = [match[0] if (match := _LAST_NAME.search(relation)) else "called" for relation in relations]
    named = list(zip(relations, schemas, tables, columns, strict=True))
    for relation, schema, table, _ in sorted(named, key=lambda each: -len(each[0])):
        sql = sql.replace(relation, f"{schema}.{table}")
    known: dict[str, object] = {
        schema: {table.strip('"`'): dict.fromkeys(those, "unknown")} for _, schema, table, those in named if those
    }
    tree = parse_one(sql, dialect=dialect)
    if any(union.args.get("by_name") for union in tree.find_all(exp.SetOperation)):
        raise ValueError("a union by name is not understood")
    query = qualify(tree, schema=known, dialect=dialect, validate_qualify_columns=False)
    scope = build_scope(query)
    if not isinstance(query, exp.Query) or any(select.is_star for select in query.selects):
        return {}
    spelled = [{column.lower(): column for column in those} for *_, those in named]
    found: dict[str, Sequence[tuple[int, str]]] = {}
    for column in query.named_selects:
        root = lineage(column, query, known, dialect=dialect, scope=scope, trim_selects=False, copy=False)
        leaves = [node for node in root.walk() if not node.downstream]
        read = {
            (schemas.index(source.db.lower()), node.name.rpartition(".")[2].strip('"`'))
            for node in leaves
            if isinstance(source := node.source, exp.Table) and source.db.lower() in schemas
        }
        if any(name == "*" or ((those := spelled[number]) and name.lower() not in those) for number, name in read):
            continue
        found[column.lower()] = sorted((number, spelled[number].get(name.lower(), name)) for number, name in read)
    return found


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def _compiled(target_path: Path, props: Mapping[str, Any]) -> str | None:
    """Return the SQL that dbt made of a model; of a microbatch model, that of a batch."""
    if props.get("language") != "sql":
        return None
    file = target_path / "compiled" / props["package_name"] / props["original_file_path"]
    batches = sorted(file.with_suffix("").glob("*.sql")) if props["config"].get("batch_size") else []
    return next((each.read_text() for each in (file, *batches) if each.is_file()), None)
