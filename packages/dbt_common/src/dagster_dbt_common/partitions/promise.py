"""Which partitioned models can keep the promise: a partition that is built again equals its rows of a full build.

A model keeps it whose SQL reads its window alone, also where its table is not there yet, and whose strategy replaces
that window. What cannot is refused when the project is loaded: it would be green, and its rows wrong.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, TemplateSyntaxError, nodes

from dagster_dbt_common.errors import config_error
from dagster_dbt_common.project.node_config import dagster_meta

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

REPLACES_WINDOW = "replaces_window"
"""The key under `meta.dagster.partitions` by which a project vouches for a strategy that this package does not know."""

_OURS = "delete_window+insert"
_OUR_MACRO = "get_incremental_delete_window_insert_sql"
_MACRO_PATHS = """add to dbt_project.yml macro-paths: ["macros", "{{ env_var('DAGSTER_DBT_COMMON_MACROS') }}"]"""
_BREAKS = {
    "append": "adds the rows of a partition that is built again",
    "merge": "keeps a row that the source took back",
    "delete+insert": "keeps a row that the source took back",
    "insert_overwrite": "keeps the rows of a partition that became empty",
}


class _Microbatch(NamedTuple):
    """What dbt's microbatch is with an adapter, and the macro that makes it."""

    strategy: str
    macro: str


# Where it replaces no window: https://docs.getdbt.com/docs/build/incremental-microbatch
_MICROBATCHES = {
    "postgres": _Microbatch("merge", "postgres__get_incremental_microbatch_sql"),
    "spark": _Microbatch("insert_overwrite", "dbt_spark_get_incremental_sql"),
}
# https://docs.getdbt.com/reference/resource-configs/spark-configs
_FORMATS_OF_SNAPSHOTS = ("delta", "iceberg", "hudi")
# By adapter, what dbt takes where a model names none, as far as its own documentation says it.
_DEFAULTS = {
    "bigquery": "merge",
    "databricks": "merge",
    "duckdb": "append",
    "postgres": "append",
    "redshift": "append",
    "snowflake": "merge",
    "spark": "append",
}
_WINDOW_MACROS = ("in_window", "partition_window")
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/|\{#.*?#\}", re.DOTALL)
_NAMED = re.compile(rf"\b({'|'.join(_WINDOW_MACROS)})\b")
_CALL = re.compile(r"\bin_window\s*\(")
_ENDS = {"min_date", "max_date"}
_JINJA = Environment(extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"])  # noqa: S701 - it parses, and renders nothing
_INCLUSIVE = re.compile(
    r"(<=|\bbetween\b[^;]*?\band)\s*(cast\s*\(|date\b|timestamp\b)?\s*['\"]?\s*\{\{\s*var\(\s*['\"]max_date['\"]",
    re.IGNORECASE | re.DOTALL,
)

_log = logging.getLogger(__name__)


def check_promises(manifest: Mapping[str, Any], partitioned: Collection[str]) -> None:
    """Refuse each partitioned model that cannot keep the promise, and each snapshot that the warehouse cannot take.

    Args:
        manifest: dbt's manifest.
        partitioned: the unique ids of the nodes and sources that have partitions.

    Raises:
        DbtConfigError: one cannot; the message names its file and the key.
    """
    _check_snapshots(manifest)
    for unique_id in sorted(partitioned):
        props = manifest["nodes"].get(unique_id)
        if props is None:
            continue  # a source: its rows are somebody else's promise
        _check_strategy(props, manifest)
        if props["config"].get("incremental_strategy") == "microbatch":
            _check_inputs(props, manifest)
        else:
            _check_window(props, manifest)
        if props["config"].get("incremental_strategy") == _OURS and not _is_of_project(_OUR_MACRO, "", manifest):
            raise config_error(props, "incremental_strategy", f"the macro {_OUR_MACRO} is not found: {_MACRO_PATHS}")


def _check_strategy(props: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    adapter = manifest["metadata"].get("adapter_type")
    strategy = props["config"].get("incremental_strategy")
    declared = dagster_meta(props).get("partitions") or {}
    if strategy == "microbatch":
        does = _MICROBATCHES.get(adapter or "")
        if does and not _is_of_project(does.macro, f"dbt_{adapter}", manifest):
            raise config_error(
                props,
                "incremental_strategy",
                f"microbatch is {does.strategy} in dbt-{adapter}, which {_BREAKS[does.strategy]}: {_take()}",
            )
        return
    if strategy == _OURS:
        return
    if declared.get(REPLACES_WINDOW) is True and (strategy not in _BREAKS or _is_overridden(strategy, manifest)):
        return
    if strategy is None:
        default = _DEFAULTS.get(adapter or "")
        which = f"it is missing, and {adapter}'s default, {default}, {_BREAKS[default]}" if default else "it is missing"
    elif strategy in _BREAKS:
        which = f"{strategy} {_BREAKS[strategy]}"
    else:
        which = f"nothing here knows whether {strategy} replaces the window"
    raise config_error(props, "incremental_strategy", f"{which}: {_take()}")


def _is_overridden(strategy: str, manifest: Mapping[str, Any]) -> bool:
    """Return whether the project has a macro of its own for a strategy of dbt's.

    https://docs.getdbt.com/docs/build/incremental-strategy#custom-strategies
    """
    adapter = manifest["metadata"].get("adapter_type")
    ending = f"get_incremental_{strategy.replace('+', '_')}_sql"
    return any(
        macro["name"] in {ending, f"{adapter}__{ending}"} and macro["package_name"] not in {"dbt", f"dbt_{adapter}"}
        for macro in manifest.get("macros", {}).values()
    )


def _is_of_project(name: str, package: str, manifest: Mapping[str, Any]) -> bool:
    """Return whether a macro of the project stands for the adapter's own, as this package's does."""
    macros = manifest.get("macros", {}).values()
    return any(macro["name"] == name and macro["package_name"] != package for macro in macros)


def _check_snapshots(manifest: Mapping[str, Any]) -> None:
    """Refuse a snapshot where dbt has no SQL for it, which it would say in the run."""
    if manifest["metadata"].get("adapter_type") != "spark":
        return
    for props in manifest["nodes"].values():
        if props["resource_type"] == "snapshot" and props["config"].get("file_format") not in _FORMATS_OF_SNAPSHOTS:
            formats = ", ".join(_FORMATS_OF_SNAPSHOTS)
            raise config_error(
                props,
                "file_format",
                f"a snapshot on Spark needs {formats}: take one, or leave it out, `enabled: false`",
            )


def _take() -> str:
    vouch = f"meta.dagster.partitions.{REPLACES_WINDOW}: true"
    return f"take '{_OURS}' with event_time, or vouch for a strategy of your own by {vouch}"


def _check_inputs(props: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    """Refuse a microbatch model none of whose inputs dbt can narrow: each batch would read all of them."""
    inputs = {
        parent: manifest["nodes"].get(parent) or manifest["sources"].get(parent) or {}
        for parent in props["depends_on"]["nodes"]
    }
    if inputs and not any(_event_time(each) for each in inputs.values()) and not _calls_window(props, manifest):
        names = ", ".join(sorted(parent.rpartition(".")[2] for parent in inputs))
        raise config_error(
            props,
            "incremental_strategy",
            f"microbatch, and no input ({names}) has an event_time, so each batch reads all: "
            "say the column at the input, `config: {event_time: ...}`",
        )


def _event_time(props: Mapping[str, Any]) -> object:
    return props.get("config", {}).get("event_time")


def _check_window(props: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    where = "meta.dagster.partitions"
    if props.get("language") == "python":
        raise config_error(
            props, where, "a Python model has no window: filter in a SQL model below it, and partition that"
        )
    if _calls_window(props, manifest):
        return
    codes = [_COMMENT.sub("", each.get("raw_code") or "") for each in _with_ephemeral(props, manifest)]
    if any(_variables(code, always=True) >= _ENDS for code in codes):
        zone = (dagster_meta(props).get("partitions") or {}).get("timezone", "UTC")
        if zone != "UTC":
            raise config_error(
                props,
                where,
                f"the variables min_date and max_date are times of {zone}, which the warehouse would read as another "
                f"zone's: filter by in_window({props['config'].get('event_time') or 'column'})",
            )
        if any(_INCLUSIVE.search(code) for code in codes):
            _log.warning(
                "%s: %s: max_date is exclusive, and the SQL includes it: write `<` for `<=` or `between`",
                props.get("original_file_path"),
                props.get("name"),
            )
        return
    if any(_CALL.search(code) for code in codes) and not _has_macro(manifest):
        raise config_error(
            props,
            where,
            f"the macro in_window is not found: {_MACRO_PATHS}",
        )
    if any(_variables(code) >= _ENDS or _CALL.search(code) for code in codes):
        raise config_error(
            props,
            where,
            "its window is only under a condition, such as is_incremental(), so the first partition of a missing table "
            "would load everything: filter always",
        )
    raise config_error(
        props,
        where,
        "the SQL has no in_window(...), nor the vars min_date and max_date, so every partition would load everything",
    )


def _has_macro(manifest: Mapping[str, Any]) -> bool:
    return any(macro.rpartition(".")[2] in _WINDOW_MACROS for macro in manifest.get("macros", {}))


def _variables(code: str, *, always: bool = False) -> set[str]:
    """Return the variables that a text reads, or those that it reads where the model's table is not there yet too."""
    found: set[str] = set()
    try:
        waiting: list[nodes.Node] = [_JINJA.parse(code)]
    except TemplateSyntaxError:
        return found
    while waiting:
        node = waiting.pop()
        if _calls(node, "var") and isinstance(node, nodes.Call) and node.args and isinstance(node.args[0], nodes.Const):
            found.add(str(node.args[0].value))
        if always and isinstance(node, nodes.If) and any(_calls(each, "is_incremental") for each in _all(node.test)):
            waiting += [*node.elif_, *node.else_]
        else:
            waiting += node.iter_child_nodes()
    return found


def _calls(node: nodes.Node, name: str) -> bool:
    return isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name == name


def _all(node: nodes.Node) -> Iterator[nodes.Node]:
    yield node
    yield from node.find_all(nodes.Node)


def _calls_window(props: Mapping[str, Any], manifest: Mapping[str, Any]) -> bool:
    """Return whether a model calls the macro of the window: itself, in a macro, or in an ephemeral model of it.

    dbt notes the macros that a model calls where its table is not there yet, and all that a macro may call.
    """
    macros: Mapping[str, Mapping[str, Any]] = manifest.get("macros", {})
    waiting = [
        macro
        for each in _with_ephemeral(props, manifest)
        for macro in _macros_of(each)
        # dbt renders what stands in a comment of SQL too.
        if macro.rpartition(".")[2] not in _WINDOW_MACROS or _NAMED.search(_COMMENT.sub("", each.get("raw_code") or ""))
    ]
    seen: set[str] = set()
    while waiting:
        macro = waiting.pop()
        if macro.rpartition(".")[2] in _WINDOW_MACROS:
            return True
        if macro not in seen:
            seen.add(macro)
            waiting.extend(_macros_of(macros.get(macro, {})))
    return False


def _macros_of(props: Mapping[str, Any]) -> Collection[str]:
    called: Collection[str] = props.get("depends_on", {}).get("macros", ())
    return called


def _with_ephemeral(props: Mapping[str, Any], manifest: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a model, and the ephemeral ones that are part of its SQL."""
    yield props
    for parent in props["depends_on"]["nodes"]:
        above = manifest["nodes"].get(parent)
        if above and above["config"].get("materialized") == "ephemeral":
            yield from _with_ephemeral(above, manifest)
