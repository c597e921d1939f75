"""The main job with its lake in an object store: the same code, another URL."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.conftest import OpenShop

# A whole main job, on an object store.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DAY = "2024-01-31"


@pytest.mark.some_of("other targets and workers", 2)
def test_marts_are_built_from_an_object_store(
    tmp_path: Path, open_shop: OpenShop, object_store: Mapping[str, str]
) -> None:
    shop = replace(open_shop(tmp_path / "shop", DAY), more={**object_store, "HEADRACE_LAKE": "s3://lake/headrace"})
    shop.demo_data("--from", DAY, "--to", DAY, "--orders-per-day", "50")
    shop.run("--from", DAY)
    assert not shop.lake.exists()
    rows = shop.exported(
        "select id::varchar, store_id::varchar, ordered_at, order_total::bigint from orders order by 1"
    )
    assert len(rows) > 10
    built = "select order_id, store_id, ordered_at::timestamp, order_total_cents::bigint from orders order by 1"
    assert shop.query(built) == rows
    items = shop.exported("select id::varchar, order_id::varchar, sku from items order by 1")
    assert shop.query("select item_id, order_id, sku from order_items order by 1") == items
