"""What Dagster records of a run: the partitions that landed, with their metadata, and no others."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from ingest.assets import raw_asset
from ingest.tables import TABLES, Column, Table

START = "2024-01-01"
DAYS = ("2024-01-01", "2024-01-02", "2024-01-03")
PARTITIONS = dg.DailyPartitionsDefinition(start_date=START)
ASSETS = {table.name: raw_asset(table, PARTITIONS) for table in TABLES}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def run(
    instance: dg.DagsterInstance, names: Sequence[str], first: str | None = None, last: str | None = None
) -> dg.ExecuteInProcessResult:
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first}
    return dg.materialize(
        [ASSETS[name] for name in names],
        instance=instance,
        tags={name: value for name, value in tags.items() if value},
        raise_on_error=False,
    )


def materializations(
    instance: dg.DagsterInstance, name: str, run_id: str | None = None
) -> list[dg.AssetMaterialization]:
    records = instance.fetch_materializations(dg.AssetKey(["raw", name]), limit=1000, ascending=True).records
    events = [record for record in records if run_id is None or record.run_id == run_id]
    return [event.asset_materialization for event in events if event.asset_materialization]


def reason(result: dg.ExecuteInProcessResult, name: str) -> str:
    error = result.failure_data_for_node(f"raw__{name}")
    assert error is not None
    assert error.user_failure_data is not None
    assert error.user_failure_data.description is not None
    return error.user_failure_data.description


def passed(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {event.check_name: event.passed for event in result.get_asset_check_evaluations()}


def lake_rows(lake: Path, name: str, day: str) -> list[tuple[object, ...]]:
    path = lake / "raw" / name / f"day={day}" / "data.parquet"
    with duckdb.connect() as connection:
        return connection.read_parquet(str(path), hive_partitioning=False).fetchall()


def test_a_range_is_one_run_with_one_file_and_one_record_a_day(
    instance: dg.DagsterInstance, good_exports: Path, lake: Path
) -> None:
    result = run(instance, ["orders", "items", "tweets"], DAYS[0], DAYS[-1])
    assert result.success
    for name in ("orders", "items", "tweets"):
        assert [event.partition for event in materializations(instance, name)] == list(DAYS)
        files = sorted(path.relative_to(lake / "raw" / name).as_posix() for path in (lake / "raw" / name).rglob("*.*"))
        assert files == [f"day={day}/data.parquet" for day in DAYS]
    for event in materializations(instance, "orders"):
        path = lake / "raw/orders" / f"day={event.partition}" / "data.parquet"
        source = good_exports / "orders" / f"{event.partition}.csv"
        assert event.metadata["dagster/partition_row_count"].value == 1
        assert event.metadata["bytes"].value == path.stat().st_size
        assert event.metadata["path"].value == str(path)
        assert event.metadata["source_sha256"].value == hashlib.sha256(source.read_bytes()).hexdigest()
        assert f"| o{event.partition} | c1 |" in str(event.metadata["preview"].value)
        schema = event.metadata["dagster/column_schema"].value
        assert isinstance(schema, dg.TableSchema)
        assert {column.name: column.type for column in schema.columns}["ordered_at"] == "timestamp"
    assert passed(result) == {"keys_unique": True, "not_empty": True}


@pytest.mark.usefixtures("good_exports")
def test_reference_tables_are_loaded_whole(instance: dg.DagsterInstance, lake: Path) -> None:
    names = ["customers", "products", "stores", "supplies"]
    assert run(instance, names).success
    assert {name: len(materializations(instance, name)) for name in names} == dict.fromkeys(names, 1)
    (event,) = materializations(instance, "supplies")
    assert event.partition is None
    assert event.metadata["dagster/row_count"].value == 2
    assert "dagster/partition_row_count" not in event.metadata
    assert (lake / "raw/supplies/data.parquet").is_file()


def test_the_good_days_of_a_range_land_and_are_recorded(
    instance: dg.DagsterInstance, good_exports: Path, lake: Path
) -> None:
    assert run(instance, ["orders"], DAYS[0], DAYS[-1]).success
    before = lake_rows(lake, "orders", DAYS[1])
    good = (good_exports / f"orders/{DAYS[1]}.csv").read_text()
    (good_exports / f"orders/{DAYS[1]}.csv").write_text(good.replace(",1100,", ",abc,"))
    (good_exports / f"orders/{DAYS[2]}.csv").unlink()
    for day in (DAYS[0], "2024-01-04"):
        (good_exports / f"orders/{day}.csv").write_text(good.replace(DAYS[1], day).replace("66", "77"))

    result = run(instance, ["orders", "items"], DAYS[0], "2024-01-04")
    assert not result.success
    recorded = materializations(instance, "orders", result.run_id)
    assert [event.partition for event in recorded] == [DAYS[0], "2024-01-04"]
    assert all(event.metadata["dagster/partition_row_count"].value == 1 for event in recorded)
    assert lake_rows(lake, "orders", DAYS[1]) == before
    assert lake_rows(lake, "orders", DAYS[0])[0][5] == 77
    # Items fail for the one day that they lack: a failing table does not keep the others from loading.
    assert [event.partition for event in materializations(instance, "items", result.run_id)] == list(DAYS)

    summary, *reasons = reason(result, "orders").splitlines()
    assert summary == "raw/orders: 2 of 4 partitions failed, 2 loaded"
    file = good_exports / "orders"
    assert reasons[0] == f"{DAYS[1]}: {file}/{DAYS[1]}.csv, line 2, column subtotal: 'abc' is not a bigint"
    assert reasons[1].startswith(f"{DAYS[2]}: {file}/{DAYS[2]}.csv: no such export")

    (good_exports / f"orders/{DAYS[1]}.csv").write_text(good)
    again = run(instance, ["orders"], DAYS[1])
    assert again.success
    assert [event.partition for event in materializations(instance, "orders", again.run_id)] == [DAYS[1]]


def test_one_bad_day_alone_fails_with_its_reason(instance: dg.DagsterInstance, good_exports: Path, lake: Path) -> None:
    path = good_exports / f"orders/{DAYS[0]}.csv"
    path.write_text(path.read_text().replace("T00:00:00", "T24:00:00"))
    result = run(instance, ["orders"], DAYS[0])
    assert reason(result, "orders") == (
        f"{path}, line 2, column ordered_at: '{DAYS[0]}T24:00:00' is outside [{DAYS[0]} 00:00:00, {DAYS[1]} 00:00:00)"
    )
    assert materializations(instance, "orders") == []
    assert not lake.exists()


@pytest.mark.usefixtures("lake")
def test_a_key_on_two_days_of_the_range_fails_the_blocking_check(
    instance: dg.DagsterInstance, good_exports: Path
) -> None:
    path = good_exports / f"items/{DAYS[1]}.csv"
    path.write_text(path.read_text().replace(f"i{DAYS[1]}", f"i{DAYS[0]}"))
    result = run(instance, ["items"], DAYS[0], DAYS[-1])
    assert not result.success
    assert passed(result) == {"keys_unique": False, "not_empty": True}
    (check,) = (event for event in result.get_asset_check_evaluations() if not event.passed)
    assert check.blocking
    assert check.description is not None
    assert f"'i{DAYS[0]}' in" in check.description
    assert all(f"day={day}" in check.description for day in DAYS[:2])


@pytest.mark.usefixtures("lake")
def test_a_good_day_does_not_clear_a_bad_one_until_that_is_mended(
    instance: dg.DagsterInstance, good_exports: Path
) -> None:
    path = good_exports / f"tweets/{DAYS[1]}.csv"
    good = path.read_text()
    path.write_text(good.splitlines()[0] + "\n")
    assert not run(instance, ["tweets"], DAYS[1]).success

    other = run(instance, ["tweets"], DAYS[2])
    assert not other.success
    assert passed(other) == {"keys_unique": True, "not_empty": False}
    assert [event.partition for event in materializations(instance, "tweets", other.run_id)] == [DAYS[2]]

    path.write_text(good)
    assert run(instance, ["tweets"], DAYS[1]).success
    assert run(instance, ["tweets"], DAYS[2]).success


@pytest.mark.usefixtures("lake")
def test_a_header_alone_fails_the_check_and_a_marker_passes(instance: dg.DagsterInstance, good_exports: Path) -> None:
    path = good_exports / f"tweets/{DAYS[1]}.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    result = run(instance, ["tweets"], DAYS[0], DAYS[-1])
    assert not result.success
    assert passed(result) == {"keys_unique": True, "not_empty": False}
    (check,) = (event for event in result.get_asset_check_evaluations() if not event.passed)
    assert check.description == f"no rows in {DAYS[1]}"

    path.rename(path.with_suffix(".empty"))
    result = run(instance, ["tweets"], DAYS[0], DAYS[-1])
    assert result.success
    events = {event.partition: event for event in materializations(instance, "tweets", result.run_id)}
    assert events[DAYS[1]].metadata["source_sha256"].value == "empty"
    assert events[DAYS[1]].metadata["dagster/partition_row_count"].value == 0


@pytest.mark.usefixtures("lake")
def test_the_checks_of_a_failed_run_cover_the_days_that_landed(
    instance: dg.DagsterInstance, good_exports: Path
) -> None:
    (good_exports / f"items/{DAYS[1]}.csv").unlink()
    result = run(instance, ["items"], DAYS[0], DAYS[-1])
    assert passed(result) == {"keys_unique": True, "not_empty": True}
    assert [event.partition for event in materializations(instance, "items")] == [DAYS[0], DAYS[2]]


@pytest.mark.usefixtures("good_exports")
def test_loading_twice_changes_no_byte(instance: dg.DagsterInstance, lake: Path) -> None:
    path = lake / "raw/orders" / f"day={DAYS[0]}" / "data.parquet"
    run(instance, ["orders"], DAYS[0])
    first = path.read_bytes()
    run(instance, ["orders"], DAYS[0], DAYS[-1])
    assert path.read_bytes() == first
    assert Counter(event.partition for event in materializations(instance, "orders"))[DAYS[0]] == 2


@pytest.mark.usefixtures("lake")
def test_a_new_table_is_one_entry(instance: dg.DagsterInstance, exports: Path) -> None:
    table = Table(
        name="refunds",
        description="Money given back.",
        columns=(Column("id", "varchar", "Identifies it."), Column("refunded_at", "timestamp", "When, UTC.")),
        key=("id",),
        daily=True,
        event_time="refunded_at",
    )
    (exports / "refunds").mkdir(parents=True)
    (exports / f"refunds/{START}.csv").write_text(f"id,refunded_at\nr1,{START}\n")
    asset = raw_asset(table, PARTITIONS)
    assert {key.name for key in asset.check_keys} == {"keys_unique", "not_empty"}
    spec = asset.get_asset_spec()
    assert (spec.group_name, spec.kinds, spec.description) == ("raw", {"python", "parquet"}, table.description)
    assert dg.materialize([asset], instance=instance, partition_key=START).success
    assert [event.partition for event in materializations(instance, "refunds")] == [START]


@pytest.mark.usefixtures("good_exports")
def test_a_lake_that_cannot_be_written_is_one_line(instance: dg.DagsterInstance, lake: Path) -> None:
    lake.write_text("a file stands where the lake should be")
    text = reason(run(instance, ["stores"]), "stores")
    assert "Not a directory" in text
    assert "\n" not in text


def test_a_run_outside_a_workspace_names_the_variable(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEADRACE_EXPORTS", raising=False)
    assert reason(run(instance, ["stores"]), "stores").startswith("HEADRACE_EXPORTS is not set")
