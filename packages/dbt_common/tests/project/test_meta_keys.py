"""What a model says to Dagster under `meta.dagster` is taken, or refused in one line with its file and its key."""

from __future__ import annotations

from typing import Any

import pytest

from dagster_dbt_common.errors import DbtConfigError
from dagster_dbt_common.project.meta_keys import check_meta


def manifest(kind: str, said: object) -> dict[str, Any]:
    node = {
        "resource_type": kind,
        "name": "orders",
        "original_file_path": "models/orders.yml",
        "config": {"meta": {"dagster": said}},
    }
    return {"nodes": {}, "sources": {"a": node}} if kind == "source" else {"nodes": {"a": node}, "sources": {}}


@pytest.mark.parametrize(
    ("kind", "said", "key", "what"),
    [
        ("model", "daily", "", "'daily' is not a mapping; the keys are asset_key,"),
        ("source", ["daily"], "", "['daily'] is not a mapping"),
        ("model", {"partitons": {}}, ".partitons", "unknown key: write partitions"),
        ("model", {"automaton": "eager"}, ".automaton", "unknown key: write automation"),
        ("source", {"externl": False}, ".externl", "unknown key: write external"),
        ("model", {"asset_key": 5}, ".asset_key", "5 is not a list of texts"),
        ("model", {"asset_key": [1]}, ".asset_key", "[1] is not a list of texts"),
        ("model", {"asset_key": []}, ".asset_key", "[] is not a list of texts"),
        ("model", {"asset_key": "a b"}, ".asset_key", "'a b': the key of a model has letters from a to z"),
        ("source", {"asset_key": {"a": "b"}}, ".asset_key", "is not a list of texts"),
        ("model", {"group": 5}, ".group", "5 is not a text"),
        ("model", {"owners": 5}, ".owners", "5 is not a list of texts"),
        ("model", {"owners": "jo@example.com"}, ".owners", "'jo@example.com' is not a list of texts"),
        ("model", {"partitioned_upstreams": "some"}, ".partitioned_upstreams", "'some' is neither all nor last"),
        ("source", {"external": "maybe"}, ".external", "'maybe' is neither true nor false"),
        ("test", {"ref": 5}, ".ref", "5 is not a mapping with the name of a model"),
        ("test", {"ref": {"name": "nobody"}}, ".ref", "there is no nobody"),
    ],
)
def test_a_wrong_value_is_one_line_with_the_file_and_the_key(kind: str, said: object, key: str, what: str) -> None:
    with pytest.raises(DbtConfigError) as raised:
        check_meta(manifest(kind, said))
    message = str(raised.value)
    assert message.startswith(f"models/orders.yml: orders: config meta.dagster{key}: ")
    assert what in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("model", None),
        ("model", {}),
        ("model", {"asset_key": ["shop", "or-ders.v2"], "group": "sales", "owners": ["team:sales"]}),
        ("model", {"asset_key": "orders", "partitioned_upstreams": "last", "automation": None}),
        ("source", {"asset_key": ["a b", "ö"], "external": False}),
        ("test", {"ref": {"name": "orders"}}),
        ("model", {"of_another_tool": 5}),
    ],
)
def test_the_rest_is_taken(kind: str, said: object) -> None:
    check_meta(manifest(kind, said))
