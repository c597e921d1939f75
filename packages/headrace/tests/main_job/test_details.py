"""What is kept of materializations: read once, and never taken for another event."""

import json
import shutil
from pathlib import Path

import pytest
from dagster import AssetKey, AssetMaterialization, DagsterEventType, DagsterInstance, EventLogRecord

from headrace.main_job.details import Detail, Details
from headrace_staleness import Partition

ORDERS = AssetKey("orders")
VIEW = AssetKey("view")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an instance in which nothing is recorded; to make its databases takes seconds."""
    folder = tmp_path_factory.mktemp("empty")
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with DagsterInstance.from_config(str(folder)) as instance:
        instance.get_runs_count()
        instance.get_asset_keys(limit=1)
    return folder


@pytest.fixture
def home(tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(empty, tmp_path / "home")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def record(key: AssetKey, partition: str | None, code: str, source: str = "", **more: int) -> None:
    read, rows = more.get("read"), more.get("rows")
    tags = {"dagster/code_version": code}
    if read is not None:
        tags["dagster_dbt_common/read_up_to"] = str(read)
    with DagsterInstance.get() as instance:
        metadata: dict[str, object] = {"source_sha256": source} if source else {}
        if rows is not None:
            metadata["dagster/partition_row_count"] = rows
        instance.report_runless_asset_event(
            AssetMaterialization(key, partition=partition, metadata=metadata, tags=tags)
        )


class Counting:
    """An instance that counts the events that are read."""

    def __init__(self, instance: DagsterInstance) -> None:
        self.instance = instance
        self.read = 0

    def __getattr__(self, name: str) -> object:
        if name == "fetch_materializations":
            self.read += 1
        return getattr(self.instance, name)


def details(home: Path, key: AssetKey, *, is_view: bool = False) -> tuple[dict[Partition, tuple[str, str]], int]:
    """Return code version and source of each partition, and how often events were read for them."""
    with DagsterInstance.get() as instance:
        counting = Counting(instance)
        found = Details(counting, home)  # type: ignore[arg-type] # it stands in front of an instance
        (entry,) = [one.asset_entry for one in instance.get_asset_records([key])]
        last = entry.last_materialization_record
        assert isinstance(last, EventLogRecord)
        by_partition = instance.get_latest_storage_id_by_partition(key, DagsterEventType.ASSET_MATERIALIZATION)
        ids: dict[Partition, int] = {None: last.storage_id} if is_view else dict(by_partition.items())
        told = found.of(key, last, ids, is_view=is_view)
        found.keep()
        return {name: (detail.code_version, detail.source) for name, detail in told.items()}, counting.read


def test_each_event_is_read_once(home: Path) -> None:
    for day in ("1", "2", "3"):
        record(ORDERS, day, "a", f"hash {day}")
    expected = {day: ("a", f"hash {day}") for day in ("1", "2", "3")}
    assert details(home, ORDERS) == (expected, 1)
    assert details(home, ORDERS) == (expected, 0)
    record(ORDERS, "2", "b")
    # The new one, and whether the last one that was known still is what it was.
    assert details(home, ORDERS) == ({**expected, "2": ("b", "")}, 2)
    assert details(home, ORDERS) == ({**expected, "2": ("b", "")}, 0)


def test_what_a_build_could_have_read_and_made_is_what_its_event_says(home: Path) -> None:
    record(ORDERS, "1", "a", read=17, rows=0)
    record(ORDERS, "2", "a")
    with DagsterInstance.get() as instance:
        (entry,) = [one.asset_entry for one in instance.get_asset_records([ORDERS])]
        last = entry.last_materialization_record
        assert last is not None
        by_partition = instance.get_latest_storage_id_by_partition(ORDERS, DagsterEventType.ASSET_MATERIALIZATION)
        ids: dict[Partition, int] = dict(by_partition.items())
        for _ in range(2):
            kept = Details(instance, home)
            found = kept.of(ORDERS, last, ids)
            told = {partition: (one.read_up_to, one.rows) for partition, one in found.items()}
            assert told == {"1": (17, 0), "2": (None, None)}
            kept.keep()


@pytest.mark.parametrize("more", [0, 1])
def test_an_id_that_is_given_again_is_another_event(home: Path, more: int) -> None:
    """SQLite gives the ids of the last rows again when these are deleted."""
    for day in ("1", "2"):
        record(ORDERS, day, "old", "old")
    before = details(home, ORDERS)[0]
    with DagsterInstance.get() as instance:
        ids = instance.get_latest_storage_id_by_partition(ORDERS, DagsterEventType.ASSET_MATERIALIZATION)
        instance.wipe_assets([ORDERS])
    for day in ("1", "2", *["3"] * more):
        record(ORDERS, day, "new", "new")
    with DagsterInstance.get() as instance:
        again = instance.get_latest_storage_id_by_partition(ORDERS, DagsterEventType.ASSET_MATERIALIZATION)
    assert {day: again[day] for day in ids} == ids
    assert set(before.values()) == {("old", "old")}
    assert set(details(home, ORDERS)[0].values()) == {("new", "new")}


def test_a_view_says_since_when_it_has_its_code(home: Path) -> None:
    for code, read in (("a", 0), ("b", 1), ("b", 2)):
        record(VIEW, None, code, read=read)
    with DagsterInstance.get() as instance:
        (entry,) = [one.asset_entry for one in instance.get_asset_records([VIEW])]
        last = entry.last_materialization_record
        assert last is not None
        for _ in range(2):
            kept = Details(instance, home)
            told = kept.of(VIEW, last, {None: last.storage_id}, is_view=True)
            assert told == {None: Detail(last.storage_id, "b", "", last.storage_id - 1, 1)}
            kept.keep()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 0}', '{"format": 1, "assets": {"orders": 1}}'])
def test_a_broken_file_is_made_again(home: Path, content: str) -> None:
    record(ORDERS, "1", "a")
    expected = details(home, ORDERS)[0]
    (file,) = home.glob("headrace-details.json")
    good = json.loads(file.read_text())
    file.write_text(content)
    assert details(home, ORDERS)[0] == expected
    assert json.loads(file.read_text()) == good
    assert list(home.glob("headrace-details*")) == [file]
