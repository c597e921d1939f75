"""Whether what Dagster has recorded is still there, as far as this machine can see."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import duckdb
import pytest
from dagster import AssetKey, DagsterInstance

from headrace.local_dagster.asset_node import AssetNode
from headrace.main_job.history import RecordedHistory
from headrace.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordedHistory]:
    (tmp_path / "workspace.yaml").write_text("load_from: []\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_WAREHOUSE", str(tmp_path / "warehouse.duckdb"))
    with DagsterInstance.ephemeral() as instance:
        yield RecordedHistory(Workspace.find(), instance)


def node(file: Path, table: str | None) -> AssetNode:
    return AssetNode(
        AssetKey("asset"),
        "analytics",
        frozenset(),
        None,
        "1",
        is_virtual=False,
        kinds=frozenset({"dbt", "duckdb"}),
        duckdb_file=str(file),
        table=table,
    )


def test_a_table_or_a_view_that_was_dropped_is_not_there(tmp_path: Path, history: RecordedHistory) -> None:
    file = tmp_path / "finance.duckdb"
    with duckdb.connect(file) as connection:
        connection.execute("create table Orders as select 1 as id")
        connection.execute("create schema marts; create view marts.days as from main.orders")
    for table, there in {
        "finance.main.orders": True,
        "Finance.main.ORDERS": True,
        "finance.marts.days": True,
        "finance.marts.orders": False,
        "finance.main.gone": False,
        "attached.main.gone": True,  # in another file
        "gone": True,
        None: True,
    }.items():
        assert history._has_table(node(file, table)) is there, table


def test_a_file_that_is_gone_has_no_table_and_one_that_cannot_be_read_may_have(
    tmp_path: Path, history: RecordedHistory
) -> None:
    gone = node(tmp_path / "gone.duckdb", "gone.main.orders")
    assert not history._has_table(gone)
    assert history._has_table(replace(gone, duckdb_file=None)), "a warehouse with several writers is in no file"
    (tmp_path / "written.duckdb").write_bytes(b"as if another process were writing it")
    assert history._has_table(node(tmp_path / "written.duckdb", "written.main.orders"))
