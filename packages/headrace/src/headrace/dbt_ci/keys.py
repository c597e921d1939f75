"""The columns that tell a model's rows apart, from its config, its contract and its tests."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_COMBINATIONS = ("combination_of_columns", "columns")
# The placeholders of dagster-dbt-common's `window_where.sql`.
_WINDOW, _KEYS_IN_WINDOW = "__window__", "__keys_in_window__"


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
    yield from _tested(node, manifest)


def _tested(node: Mapping[str, Any], manifest: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    """Yield the columns that a test holds unique; a test of a part of the rows says nothing of the others.

    `__keys_in_window__` is a test of all rows, window by window, and so is `__window__` where the key has the window's
    own column: equal keys are in one window then.
    """
    tests = [test for test in manifest["nodes"].values() if test.get("attached_node") == node["unique_id"]]
    for test in sorted(tests, key=lambda test: str(test["unique_id"])):
        said, where = test.get("test_metadata") or {}, test["config"].get("where")
        if "unique" not in said.get("name", ""):
            continue
        found: list[Any] = [[test["column_name"]]] if said["name"] == "unique" and test.get("column_name") else []
        found += [said.get("kwargs", {}).get(name) for name in _COMBINATIONS]
        for columns in found:
            is_of_all = where in (None, "", _KEYS_IN_WINDOW)
            if isinstance(columns, list) and (
                is_of_all or (where == _WINDOW and node["config"].get("event_time") in columns)
            ):
                yield columns
