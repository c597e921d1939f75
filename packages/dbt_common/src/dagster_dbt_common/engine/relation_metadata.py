"""What a built relation has become: its row count and its columns, read through dbt's adapter while dbt goes on."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Any

from dagster import AssetMaterialization, Output, TableColumn, TableSchema, get_dagster_logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dagster_dbt import DbtCliInvocation
    from dagster_dbt.core.dbt_event_iterator import DbtDagsterEventType
    from dbt.adapters.base.impl import BaseAdapter

_DRIVERS_WITH_OTHER_NAMES = ("postgres", "redshift")
_OF_WINDOWS = "dbt_window"
"""The column of this package's macros for Spark, which is none of the model's."""
_LOG = get_dagster_logger()


def with_row_count(invocation: DbtCliInvocation, event: DbtDagsterEventType) -> DbtDagsterEventType:
    """Return the event with the rows of the table that was built; a view is not counted, since that runs its query."""
    props = _built(invocation, event)
    if invocation.adapter is None or props is None or props["config"]["materialized"] == "view":
        return event
    kind = invocation.manifest["metadata"]["adapter_type"]
    return _with(event, {"dagster/row_count": _row_count(invocation.adapter, props), "dagster/storage_kind": kind})


def with_columns(invocation: DbtCliInvocation, event: DbtDagsterEventType) -> DbtDagsterEventType:
    """Return the event with the columns of the relation, their types as the warehouse names them."""
    props = _built(invocation, event)
    if invocation.adapter is None or props is None:
        return event
    return _with(event, {"dagster/column_schema": columns_of(invocation.adapter, props)})


def _built(invocation: DbtCliInvocation, event: DbtDagsterEventType) -> Mapping[str, Any] | None:
    if not isinstance(event, (Output, AssetMaterialization)):
        return None
    props: Mapping[str, Any] | None = invocation.manifest["nodes"].get(event.metadata["unique_id"].value)
    return props


def _row_count(adapter: BaseAdapter, props: Mapping[str, Any]) -> int | None:
    query = f"select count(*) from {props['relation_name']}"  # noqa: S608 - dbt has quoted the name
    try:
        with adapter.connection_named(f"row_count_{props['unique_id']}"):
            _, table = adapter.execute(query, fetch=True)
            return int(table[0][0])
    except Exception as error:  # the adapter's own kind of error; a count that is missing must not fail a model
        _LOG.warning(f"no row count of {props['relation_name']}: {error}")
        return None


def columns_of(adapter: BaseAdapter, props: Mapping[str, Any]) -> TableSchema | None:
    """Return the columns of a node's or a source's relation, with what dbt says of them; None where it has none."""
    try:
        with adapter.connection_named(f"columns_{props['unique_id']}"):
            found = _named_types(adapter, props) or _types_of_query(adapter, props)
    except Exception as error:  # as above
        _LOG.warning(f"no columns of {props['relation_name']}: {error}")
        return None
    described = {name.lower(): column.get("description") or None for name, column in props["columns"].items()}
    columns = [TableColumn(name, type=type_, description=described.get(name.lower())) for name, type_ in found]
    return TableSchema(columns)


def _types_of_query(adapter: BaseAdapter, props: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    query = f"select * from {props['relation_name']} where 1 = 0"  # noqa: S608 - dbt has quoted the name
    return [(column.name, column.data_type) for column in adapter.get_column_schema_from_query(query)]


def _named_types(adapter: BaseAdapter, props: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Return the columns of a table as the warehouse names their types; none where the driver's names are the same.

    Of a query Postgres and Spark tell the driver's own, `LONGINTEGER` for `bigint`.
    """
    if adapter.type() == "spark":
        _, table = adapter.execute(f"describe {props['relation_name']}", fetch=True)
        rows = takewhile(lambda row: row[0] and not str(row[0]).startswith("#"), table.rows)
        return [(str(row[0]), str(row[1])) for row in rows if row[0] != _OF_WINDOWS]
    if adapter.type() not in _DRIVERS_WITH_OTHER_NAMES:
        return []
    name = str(props.get("identifier") or props.get("alias")).replace("'", "''")
    schema = str(props["schema"]).replace("'", "''")
    query = (
        "select a.attname, format_type(a.atttypid, a.atttypmod) from pg_attribute a "  # noqa: S608 - names of dbt's, quoted
        "join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace "
        f"where n.nspname = '{schema}' and c.relname = '{name}' and a.attnum > 0 and not a.attisdropped "
        "order by a.attnum"
    )
    _, table = adapter.execute(query, fetch=True)
    return [(str(row[0]), str(row[1])) for row in table.rows]


def _with(event: DbtDagsterEventType, metadata: Mapping[str, Any]) -> DbtDagsterEventType:
    known = {name: value for name, value in metadata.items() if value is not None}
    return event.with_metadata({**event.metadata, **known}) if known else event
