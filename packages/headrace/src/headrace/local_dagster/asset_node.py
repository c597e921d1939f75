"""An asset as its code location serves it, and a graph of them as text.

Adapter of a private Dagster module: the text of a partitions definition is that by which a code server tells it.
`tests/local_dagster/test_asset_node.py` fails if it moves.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dagster import AssetKey, PartitionMapping, PartitionsDefinition, deserialize_value, serialize_value
from dagster._core.definitions.partitions.snap.snap import PartitionsSnap


@dataclass(frozen=True)
class AssetNode:
    """An asset as its code location serves it.

    Args:
        key: the asset's key.
        location: the name of the code location that materializes it.
        parents: the keys of the assets that it is made from.
        partitions_def: its partitions; None where it has none.
        code_version: what its location says of its code; None where it says nothing.
        is_virtual: whether it holds no data of its own, as a view.
        kinds: what it is made and stored with, such as dbt and duckdb.
        duckdb_file: the DuckDB file that its table is in, where its location says so.
        table: the table, as `database.schema.name`, where its location says so.
        event_time: the column by whose time its rows are in partitions, where its location says so.
        mappings: which partitions of a parent its partitions read, where that is not Dagster's default; of its own key
            where they read earlier ones of itself.
        blocking_checks: the names of its checks that hold back what is below.
    """

    key: AssetKey
    location: str
    parents: frozenset[AssetKey]
    partitions_def: PartitionsDefinition[str] | None
    code_version: str | None
    is_virtual: bool
    kinds: frozenset[str] = frozenset()
    duckdb_file: str | None = None
    table: str | None = None
    event_time: str | None = None
    mappings: Mapping[AssetKey, PartitionMapping] = field(default_factory=dict)
    blocking_checks: frozenset[str] = frozenset()


def nodes_to_json(nodes: Sequence[AssetNode]) -> str:
    """Return a graph as text."""
    definitions: list[Any] = list(dict.fromkeys(node.partitions_def for node in nodes if node.partitions_def))
    return json.dumps(
        {
            "definitions": [_text(PartitionsSnap.from_def(definition)) for definition in definitions],
            "nodes": [
                {
                    "key": node.key.path,
                    "location": node.location,
                    "parents": sorted(parent.path for parent in node.parents),
                    "partitions": definitions.index(node.partitions_def) if node.partitions_def else None,
                    "code_version": node.code_version,
                    "is_virtual": node.is_virtual,
                    "kinds": sorted(node.kinds),
                    "duckdb_file": node.duckdb_file,
                    "table": node.table,
                    "event_time": node.event_time,
                    "mappings": sorted([parent.path, _text(how)] for parent, how in node.mappings.items()),
                    "blocking_checks": sorted(node.blocking_checks),
                }
                for node in nodes
            ],
        }
    )


def nodes_from_json(text: str) -> Sequence[AssetNode]:
    """Read what `nodes_to_json` wrote."""
    graph = json.loads(text)
    definitions: list[Any] = [_object(definition).get_partitions_definition() for definition in graph["definitions"]]
    return [
        AssetNode(
            key=AssetKey(node["key"]),
            location=node["location"],
            parents=frozenset(AssetKey(parent) for parent in node["parents"]),
            partitions_def=None if node["partitions"] is None else definitions[node["partitions"]],
            code_version=node["code_version"],
            is_virtual=node["is_virtual"],
            kinds=frozenset(node["kinds"]),
            duckdb_file=node["duckdb_file"],
            table=node.get("table"),  # what was remembered by a former release says neither
            event_time=node.get("event_time"),
            mappings={AssetKey(parent): _object(how) for parent, how in node["mappings"]},
            blocking_checks=frozenset(node["blocking_checks"]),
        )
        for node in graph["nodes"]
    ]


# Dagster's own text of a definition or a mapping; its annotations know of neither.
def _text(value: Any) -> str:
    return serialize_value(value)


def _object(text: str) -> Any:
    return deserialize_value(text)
