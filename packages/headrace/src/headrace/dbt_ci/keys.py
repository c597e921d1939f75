"""The columns that tell a model's rows apart, from its config, its contract and its tests."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_COMBINATIONS = ("combination_of_columns", "columns")


def key_of(node: Mapping[str, Any], manifest: Mapping[str, Any]) -> Sequence[str]:
    """Return the key of a node, empty where nothing says it.

    Args:
        node: the node.
        manifest: its manifest, with the tests.
    """
    return next((key for key in _keys(node, manifest) if key), ())


def _keys(node: Mapping[str, Any], manifest: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    unique_key = node["config"].get("unique_key")
    if node["resource_type"] == "snapshot":
        # The unique key of a snapshot is that of what it reads: here it has a row a period.
        yield [(node["config"].get("snapshot_meta_column_names") or {}).get("dbt_scd_id") or "dbt_scd_id"]
    elif unique_key:
        yield [unique_key] if isinstance(unique_key, str) else list(unique_key)
    for constraint in node.get("constraints") or ():
        if constraint["type"] in ("primary_key", "unique"):
            yield constraint.get("columns") or ()
    for column in node.get("columns", {}).values():
        if any(constraint["type"] in ("primary_key", "unique") for constraint in column.get("constraints") or ()):
            yield [column["name"]]
    yield from _tested(node["unique_id"], manifest)


def _tested(unique_id: str, manifest: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    """Yield the columns that a test holds unique; a test of a part of the rows says nothing of the others."""
    tests = [test for test in manifest["nodes"].values() if test.get("attached_node") == unique_id]
    for test in sorted(tests, key=lambda test: str(test["unique_id"])):
        said = test.get("test_metadata") or {}
        if not test["config"].get("where") and "unique" in said.get("name", ""):
            if said["name"] == "unique" and test.get("column_name"):
                yield [test["column_name"]]
            for name in _COMBINATIONS:
                columns = said.get("kwargs", {}).get(name)
                yield columns if isinstance(columns, list) else ()
