"""Checks what dbt nodes say to Dagster under `meta.dagster`, before dagster-dbt fails on it without a file's name."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from dagster_dbt_common.errors import config_error

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

_WHERE = "meta.dagster"
# What dagster-dbt makes the name of a step's output of; a source's key may have any text.
_PART = re.compile(r"[A-Za-z0-9_.-]+")
# dagster-dbt 0.29, `asset_utils.py` and `freshness_builder.py`.
_OF_DAGSTER_DBT = (
    "asset_key",
    "auto_materialize_policy",
    "freshness_check",
    "freshness_policy",
    "group",
    "has_self_dependency",
    "owners",
    "ref",
)
_OURS = ("automation", "external", "partitioned_upstreams", "partitions")
_KEYS = (*_OF_DAGSTER_DBT, *_OURS)


def check_meta(manifest: Mapping[str, Any]) -> None:
    """Refuse what is no value of a key under `meta.dagster`, and what looks like a key with a letter wrong.

    A key of some other tool's is let be.

    Args:
        manifest: dbt's manifest.

    Raises:
        DbtConfigError: of the first node, in the order of their unique ids; the message names its file and the key.
    """
    names = {props["name"] for props in manifest["nodes"].values()}
    for _, props in sorted([*manifest["nodes"].items(), *manifest["sources"].items()]):
        meta = props.get("config", {}).get("meta") or props.get("meta") or {}
        said = meta.get("dagster")
        if said is None:
            continue
        if not isinstance(said, dict):
            raise config_error(props, _WHERE, f"{said!r} is not a mapping; the keys are {', '.join(sorted(_KEYS))}")
        for key, value in said.items():
            if key not in _KEYS and (meant := get_close_matches(str(key), _KEYS, n=1, cutoff=0.8)):
                raise config_error(props, f"{_WHERE}.{key}", f"unknown key: write {meant[0]}")
            if value is not None and (wrong := _CHECKS.get(key, _nothing)(value, props, names)):
                raise config_error(props, f"{_WHERE}.{key}", wrong)


def _nothing(_: object, __: Mapping[str, Any], ___: Collection[str]) -> str | None:
    return None


def _asset_key(value: object, props: Mapping[str, Any], _: Collection[str]) -> str | None:
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, list) or not parts or not all(isinstance(part, str) and part for part in parts):
        return f"{value!r} is not a list of texts, like [raw, orders]"
    if props["resource_type"] != "source" and not all(_PART.fullmatch(part) for part in parts):
        return f"{value!r}: the key of a model has letters from a to z, digits, and _ . - alone"
    return None


def _text(value: object, _: Mapping[str, Any], __: Collection[str]) -> str | None:
    return None if isinstance(value, str) else f"{value!r} is not a text"


def _texts(value: object, _: Mapping[str, Any], __: Collection[str]) -> str | None:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return None
    return f"{value!r} is not a list of texts, like [jo@example.com, team:finance]"


def _boolean(value: object, _: Mapping[str, Any], __: Collection[str]) -> str | None:
    return None if isinstance(value, bool) else f"{value!r} is neither true nor false"


def _upstreams(value: object, _: Mapping[str, Any], __: Collection[str]) -> str | None:
    return None if value in ("all", "last") else f"{value!r} is neither all nor last"


def _ref(value: object, _: Mapping[str, Any], names: Collection[str]) -> str | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return f"{value!r} is not a mapping with the name of a model, like {{name: orders}}"
    return None if value["name"] in names else f"there is no {value['name']}"


_CHECKS: Mapping[str, Callable[[object, Mapping[str, Any], Collection[str]], str | None]] = {
    "asset_key": _asset_key,
    "external": _boolean,
    "group": _text,
    "has_self_dependency": _boolean,
    "owners": _texts,
    "partitioned_upstreams": _upstreams,
    "ref": _ref,
}
