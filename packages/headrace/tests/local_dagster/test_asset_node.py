"""A graph as text is the same graph."""

from datetime import datetime

from dagster import (
    AssetKey,
    LastPartitionMapping,
    StaticPartitionsDefinition,
    TimeWindowPartitionMapping,
    TimeWindowPartitionsDefinition,
)

from headrace.local_dagster.asset_node import AssetNode, nodes_from_json, nodes_to_json

# As a code server tells them: of the general class.
START = datetime(2024, 1, 15)  # noqa: DTZ001 - of the definition's zone


def days() -> TimeWindowPartitionsDefinition:
    return TimeWindowPartitionsDefinition(start=START, cron_schedule="0 0 * * *", fmt="%Y-%m-%d", end_offset=1)


DAYS = days()
ORDERS, HOURS = AssetKey(["raw", "orders"]), AssetKey("hours")
GRAPH = [
    AssetNode(ORDERS, "ingest", frozenset(), DAYS, None, is_virtual=False, blocking_checks=frozenset({"b", "a"})),
    AssetNode(
        AssetKey("view"),
        "analytics",
        frozenset({ORDERS}),
        None,
        "7",
        is_virtual=True,
        kinds=frozenset({"dbt"}),
        duckdb_file="/srv/warehouse.duckdb",
        table="warehouse.main.view",
    ),
    AssetNode(
        AssetKey("days"),
        "analytics",
        frozenset({ORDERS, HOURS}),
        days(),
        "8",
        is_virtual=False,
        duckdb_file="/a file.duckdb",
        mappings={ORDERS: TimeWindowPartitionMapping(start_offset=-6), HOURS: LastPartitionMapping()},
    ),
    AssetNode(
        HOURS,
        "analytics",
        frozenset(),
        TimeWindowPartitionsDefinition(
            start=START, cron_schedule="15 * * * *", fmt="%Y-%m-%d-%H:%M", timezone="Europe/Berlin"
        ),
        "9",
        is_virtual=False,
    ),
    AssetNode(
        AssetKey("quarters"),
        "analytics",
        frozenset(),
        TimeWindowPartitionsDefinition(
            start=START,
            cron_schedule="*/15 * * * *",
            fmt="%Y-%m-%d-%H:%M",
            exclusions=["0 0 * * *"],
        ),
        None,
        is_virtual=False,
    ),
    AssetNode(AssetKey("kinds"), "x", frozenset(), StaticPartitionsDefinition(["a", "b"]), None, is_virtual=False),
]


def test_it_is_the_same_graph() -> None:
    text = nodes_to_json(GRAPH)
    assert nodes_from_json(text) == GRAPH
    assert nodes_to_json(nodes_from_json(text)) == text
    # Assets of one definition share it: what is worked out for it is so once.
    shared = [node.partitions_def for node in nodes_from_json(text) if node.partitions_def == DAYS]
    assert shared[0] is shared[1]
