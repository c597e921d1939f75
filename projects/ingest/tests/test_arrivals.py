"""The sensor over real files, a real instance and real loads: each export is loaded once for each content it has."""

import hashlib
import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from ingest.arrivals import Arrival, Batch, Look, Partition, Seen, batches, look
from ingest.assets import raw_asset
from ingest.definitions import defs
from ingest.defs.arrivals import new_exports
from ingest.defs.raw import raw_assets
from ingest.new_exports import new_exports_sensor, seconds_between_looks
from ingest.tables import TABLES

# Most of them load, in runs of Dagster.
pytestmark = pytest.mark.slow

DAYS = ("2024-01-01", "2024-01-02", "2024-01-03")
DAILY = ["raw/items", "raw/orders", "raw/tweets"]
REFERENCE = ["raw/customers", "raw/products", "raw/stores", "raw/supplies"]
ALL_NEW = [(REFERENCE, None, None), (DAILY, DAYS[0], DAYS[-1])]
FIRST, LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"

Requested = tuple[list[str], str | None, str | None]


@dataclass
class Ingest:
    """The sensor with its cursor, looking as the daemon does, and the runs that it asks for."""

    instance: dg.DagsterInstance
    sensor: dg.SensorDefinition = new_exports
    definitions: dg.Definitions = field(default_factory=defs)
    cursor: str | None = None
    requests: Sequence[dg.RunRequest] = field(default_factory=list)
    skip_message: str | None = None

    def look(self) -> list[Requested]:
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, repository_def=self.definitions.get_repository_def()
        )
        tick = self.sensor.evaluate_tick(context)
        self.cursor = tick.cursor or self.cursor
        self.requests, self.skip_message = tick.run_requests or [], tick.skip_message
        return [requested(request) for request in self.requests]

    def later(self, seconds: float) -> None:
        """Let so much time have passed since each waiting export was first seen as it is."""
        stored = json.loads(self.cursor or "{}")
        for versions in stored["waiting"].values():
            for day, waiting in versions.items():
                version, _, since = waiting.partition(" ")
                versions[day] = f"{version} {float(since) - seconds}"
        self.cursor = json.dumps(stored)

    def load(self) -> bool:
        """Run what was requested last; return whether all of it succeeded."""
        results = [run(self.instance, request) for request in self.requests]
        return all(result.success for result in results)

    def loads(self, table: str) -> Counter[str | None]:
        records = self.instance.fetch_materializations(dg.AssetKey(["raw", table]), limit=1000).records
        return Counter(record.partition_key for record in records)


def requested(request: dg.RunRequest) -> Requested:
    keys = sorted(key.to_user_string() for key in request.asset_selection or ())
    day = request.partition_key
    return keys, request.tags.get(FIRST, day), request.tags.get(LAST, day)


def run(instance: dg.DagsterInstance, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [asset for asset in raw_assets if asset.key in (request.asset_selection or ())],
        instance=instance,
        partition_key=request.partition_key,
        tags={name: value for name, value in request.tags.items() if name in (FIRST, LAST)},
        raise_on_error=False,
    )


def settle(folder: Path, seconds: float = 60) -> None:
    """Make the files as old as if nobody had written to them for a while."""
    then = time.time() - seconds
    for path in folder.rglob("*.*"):
        if path.stat().st_mtime > then:
            os.utime(path, (then, then))


@pytest.fixture
def ingest() -> Iterator[Ingest]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Ingest(instance)


@pytest.fixture
def settled(good_exports: Path, lake: Path) -> Path:  # noqa: ARG001 - the lake's place in the environment
    settle(good_exports)
    return good_exports


@pytest.fixture(scope="module")
def loaded_once(
    tmp_path_factory: pytest.TempPathFactory, write_good_exports: Callable[[Path], None]
) -> tuple[Path, str | None]:
    """Return a folder of exports, the lake and the instance that has loaded them, and the cursor: a second's work."""
    folder = tmp_path_factory.mktemp("loaded")
    write_good_exports(folder / "exports")
    settle(folder / "exports")
    (folder / "home").mkdir()
    with pytest.MonkeyPatch.context() as environment, dg.DagsterInstance.local_temp(str(folder / "home")) as instance:
        environment.setenv("HEADRACE_EXPORTS", str(folder / "exports"))
        environment.setenv("HEADRACE_LAKE", str(folder / "lake"))
        ingest = Ingest(instance)
        assert ingest.look() == ALL_NEW
        assert ingest.load()
        assert ingest.look() == []
    return folder, ingest.cursor


@pytest.fixture
def loaded(
    ingest: Ingest, loaded_once: tuple[Path, str | None], exports: Path, lake: Path, tmp_path: Path
) -> Iterator[Path]:
    folder, ingest.cursor = loaded_once
    for name, target in (("exports", exports), ("lake", lake), ("home", tmp_path / "home")):
        shutil.copytree(folder / name, target)
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as ingest.instance:
        # These are other files, with the same content.
        assert ingest.look() == []
        yield exports


@pytest.mark.usefixtures("settled")
def test_what_is_there_is_loaded_once_in_a_run_over_the_range(ingest: Ingest) -> None:
    assert ingest.look() == ALL_NEW
    assert ingest.load()
    for name in ("orders", "items", "tweets"):
        assert ingest.loads(name) == dict.fromkeys(DAYS, 1)
    for _ in range(2):
        assert ingest.look() == []
        assert ingest.skip_message is not None
        assert ingest.skip_message.startswith("nothing new in ")


def test_it_runs_without_a_hand() -> None:
    assert new_exports.default_status is dg.DefaultSensorStatus.RUNNING
    assert new_exports.minimum_interval_seconds == 3


@pytest.mark.usefixtures("settled")
def test_what_a_run_has_loaded_without_the_sensor_is_not_loaded_again(ingest: Ingest) -> None:
    everything = dg.RunRequest(
        asset_selection=[asset.key for asset in raw_assets if asset.partitions_def],
        tags={FIRST: DAYS[0], LAST: DAYS[1]},
    )
    assert run(ingest.instance, everything).success
    assert run(ingest.instance, dg.RunRequest(asset_selection=[dg.AssetKey(["raw", "stores"])])).success
    assert ingest.look() == [
        (["raw/customers", "raw/products", "raw/supplies"], None, None),
        (DAILY, DAYS[2], DAYS[2]),
    ]


def test_a_corrected_day_is_loaded_again_and_no_other(ingest: Ingest, loaded: Path) -> None:
    path = loaded / f"orders/{DAYS[0]}.csv"
    path.write_text(path.read_text().replace("1166", "1167"))
    settle(loaded)
    assert ingest.look() == [(["raw/orders"], DAYS[0], DAYS[0])]
    assert ingest.load()
    assert ingest.loads("orders") == {DAYS[0]: 2, DAYS[1]: 1, DAYS[2]: 1}
    assert ingest.look() == []


def test_a_changed_reference_table_is_loaded_again(ingest: Ingest, loaded: Path) -> None:
    (loaded / "stores.csv").write_text("id,name,opened_at,tax_rate\ns1,Bergen,2023-09-01,0.06\n")
    settle(loaded)
    assert ingest.look() == [(["raw/stores"], None, None)]
    assert ingest.load()
    assert ingest.look() == []


def test_a_file_that_was_only_touched_is_not_loaded_again(ingest: Ingest, loaded: Path) -> None:
    for path in loaded.rglob("*.csv"):
        os.utime(path, (time.time() - 30, time.time() - 30))
    assert ingest.look() == []
    assert sum(ingest.loads("orders").values()) == len(DAYS)


def test_a_day_that_goes_back_to_what_it_was_is_loaded_again(ingest: Ingest, loaded: Path) -> None:
    path = loaded / f"orders/{DAYS[1]}.csv"
    keys = set()
    for total in ("1167", "1168"):
        path.rename(loaded / total)
        path.write_text((loaded / total).read_text().replace("1166", total).replace("1167", total))
        settle(loaded)
        assert ingest.look() == [(["raw/orders"], DAYS[1], DAYS[1])]
        assert ingest.load()
        keys.add(ingest.requests[0].run_key)
    # The file of the first correction, unchanged: Dagster runs a key that it has seen only once.
    (loaded / "1168").replace(path)
    assert ingest.look() == [(["raw/orders"], DAYS[1], DAYS[1])]
    assert ingest.requests[0].run_key not in keys


def test_a_day_waits_while_one_of_its_files_may_still_be_written(ingest: Ingest, loaded: Path) -> None:
    day = "2024-01-04"
    for name in ("items", "tweets"):
        text = (loaded / f"{name}/{DAYS[2]}.csv").read_text()
        (loaded / f"{name}/{day}.csv").write_text(text.replace(DAYS[2], day))
    settle(loaded)
    orders = loaded / f"orders/{day}.csv"
    text = (loaded / f"orders/{DAYS[2]}.csv").read_text().replace(DAYS[2], day)
    orders.write_text(text[:80])
    assert ingest.look() == []
    assert ingest.skip_message == f"raw/orders of {day} may still be written"
    orders.write_text(text)
    # As old as it may be: it changed since the last look.
    settle(loaded)
    assert ingest.look() == []
    assert ingest.look() == [(DAILY, day, day)]
    assert ingest.load()
    assert ingest.look() == []


def test_a_source_that_renames_its_files_into_place_need_not_be_waited_for(
    ingest: Ingest, loaded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = loaded / f"orders/{DAYS[1]}.csv"
    path.write_text(path.read_text().replace("1166", "1167"))
    assert ingest.look() == []
    monkeypatch.setenv("HEADRACE_SETTLED_SECONDS", "0")
    assert ingest.look() == [(["raw/orders"], DAYS[1], DAYS[1])]


@pytest.mark.usefixtures("loaded")
def test_a_setting_that_is_none_is_the_reason_of_a_tick(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_SETTLED_SECONDS", "soon")
    assert ingest.look() == []
    assert ingest.skip_message == "HEADRACE_SETTLED_SECONDS: 'soon' is not a number of seconds, 0 to 3600"


def test_a_file_from_the_future_is_settled_when_it_has_been_the_same_for_a_while(ingest: Ingest, loaded: Path) -> None:
    path = loaded / f"orders/{DAYS[0]}.csv"
    path.write_text(path.read_text().replace("1166", "1167"))
    os.utime(path, (time.time() + 3600, time.time() + 3600))
    assert ingest.look() == []
    ingest.later(6)
    assert ingest.look() == [], "the same at the next look, 5 s later"
    ingest.later(6)
    assert ingest.look() == [(["raw/orders"], DAYS[0], DAYS[0])]


def test_a_clock_that_is_set_back_lets_no_file_wait_for_it(ingest: Ingest, loaded: Path) -> None:
    path = loaded / f"orders/{DAYS[0]}.csv"
    path.write_text(path.read_text().replace("1166", "1167"))
    os.utime(path, (time.time() + 7200, time.time() + 7200))
    assert ingest.look() == []
    ingest.later(-3600)
    assert ingest.look() == [], "the time since then is not known any more"
    ingest.later(12)
    assert ingest.look() == [(["raw/orders"], DAYS[0], DAYS[0])]


def test_a_file_that_cannot_be_loaded_is_asked_for_again_only_when_it_changes(ingest: Ingest, loaded: Path) -> None:
    path = loaded / f"orders/{DAYS[1]}.csv"
    good = path.read_text()
    path.write_text(good.replace("1166", "many"))
    settle(loaded)
    assert ingest.look() == [(["raw/orders"], DAYS[1], DAYS[1])]
    assert not ingest.load()
    assert ingest.look() == ingest.look() == []
    path.write_text(good.replace("1166", "1168"))
    settle(loaded)
    assert ingest.look() == [(["raw/orders"], DAYS[1], DAYS[1])]
    assert ingest.load()
    assert ingest.look() == []


def test_a_bad_day_of_a_range_keeps_no_other_day_from_being_loaded(ingest: Ingest, settled: Path) -> None:
    path = settled / f"orders/{DAYS[1]}.csv"
    path.write_text("id\n")
    settle(settled)
    assert ingest.look() == ALL_NEW
    assert not ingest.load()
    assert ingest.look() == []
    assert ingest.loads("orders") == {DAYS[0]: 1, DAYS[2]: 1}


def test_two_files_for_one_day_are_a_run_that_says_so_once(ingest: Ingest, loaded: Path) -> None:
    (loaded / f"orders/{DAYS[1]}.empty").touch()
    settle(loaded)
    assert ingest.look() == [(["raw/orders"], DAYS[1], DAYS[1])]
    assert not ingest.load()
    assert ingest.look() == []
    (loaded / f"orders/{DAYS[1]}.empty").unlink()
    assert ingest.look() == []


def test_markers_and_the_other_suffixes_count_and_other_names_do_not(ingest: Ingest, loaded: Path) -> None:
    (loaded / "orders/2024-01-04.empty").touch()
    (loaded / "tweets/2024-01-05.jsonl").write_text(
        '{"id": "t", "user_id": "c1", "tweeted_at": "2024-01-05 01:00:00", "content": ""}\n'
    )
    for name in ("2024-01-06.csv.tmp", "2024-02-30.csv", "20240107.csv", ".2024-01-08.csv", "notes.csv"):
        (loaded / "orders" / name).write_text("no export")
    (loaded / "refunds.csv").write_text("nobody's")
    settle(loaded)
    assert ingest.look() == [
        (["raw/orders"], "2024-01-04", "2024-01-04"),
        (["raw/tweets"], "2024-01-05", "2024-01-05"),
    ]
    assert ingest.load()
    assert ingest.look() == []


def test_a_day_is_loaded_when_it_has_a_partition(ingest: Ingest, loaded: Path) -> None:
    today = datetime.now(UTC).date()
    for day in (today, today + timedelta(days=1), date(2023, 12, 31)):
        (loaded / f"orders/{day}.csv").write_text("not read")
    settle(loaded)
    assert ingest.look() == []
    found = [first_look(loaded, ingest, until=today - timedelta(days=1) + timedelta(days=more)) for more in range(3)]
    days = [today, today + timedelta(days=1)]
    assert [[arrival.partition.day for arrival in look.arrivals] for look in found] == [
        [str(day) for day in days[:more]] for more in range(3)
    ]


def first_look(folder: Path, ingest: Ingest, until: date) -> Look:
    return look(
        folder,
        TABLES,
        Seen.from_cursor(ingest.cursor),
        first=date(2024, 1, 1),
        last=until,
        now=time.time(),
        last_loads=lambda _table, _days: {},
        being_loaded=dict,
        settled=10,
    )


@pytest.mark.slow
def test_a_table_that_a_run_is_loading_waits_for_it(ingest: Ingest, loaded: Path) -> None:
    job = defs().resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey(["raw", "orders"])]
    going = ingest.instance.create_run_for_job(
        job.get_subset(asset_selection=set(keys)), asset_selection=frozenset(keys), status=dg.DagsterRunStatus.STARTED
    )
    for name in ("orders", "items"):
        path = loaded / f"{name}/{DAYS[0]}.csv"
        path.write_text(path.read_text() + "\n")
    (loaded / "customers.csv").write_text("id,name\nc1,Zoë\n")
    settle(loaded)
    assert ingest.look() == [(["raw/customers"], None, None)]
    assert ingest.look() == []
    assert ingest.skip_message == f"raw/orders of {DAYS[0]} waits for run {going.run_id}"
    ingest.instance.report_run_canceled(going)
    assert ingest.look() == [(["raw/items", "raw/orders"], DAYS[0], DAYS[0])]


@pytest.mark.usefixtures("settled")
def test_a_look_repeated_after_a_crash_asks_for_the_same_runs(ingest: Ingest) -> None:
    ingest.look()
    before = [request.run_key for request in ingest.requests]
    ingest.cursor = None
    ingest.look()
    assert [request.run_key for request in ingest.requests] == before
    assert None not in before
    assert ingest.load()
    ingest.cursor = None
    assert ingest.look() == []


def test_a_file_that_cannot_be_read_is_for_a_run_to_refuse(ingest: Ingest, loaded: Path) -> None:
    path = loaded / f"orders/{DAYS[1]}.csv"
    path.unlink()
    path.symlink_to("/proc/self/mem")
    (loaded / "items" / "2024-01-04.csv").mkdir()
    (loaded / f"tweets/{DAYS[2]}.csv").rename(loaded / f"tweets/{DAYS[2]}.empty")
    settle(loaded / "tweets")
    # Linux dates a file of /proc when it is first looked at: it may be old at once.
    found, loaded_all = [], []
    for _ in range(2):
        found += ingest.look()
        loaded_all.append(ingest.load())
        ingest.later(60)
    assert sorted(found) == [(["raw/orders"], DAYS[1], DAYS[1]), (["raw/tweets"], DAYS[2], DAYS[2])]
    assert not all(loaded_all)


def test_a_file_that_is_gone_is_not_a_change(ingest: Ingest, loaded: Path) -> None:
    path = loaded / f"orders/{DAYS[1]}.csv"
    path.rename(loaded / "kept")
    assert ingest.look() == []
    (loaded / "kept").rename(path)
    assert ingest.look() == []


@pytest.mark.parametrize("folder", ["missing", "", None])
def test_no_folder_is_one_line(
    ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    if folder is None:
        monkeypatch.delenv("HEADRACE_EXPORTS", raising=False)
    else:
        monkeypatch.setenv("HEADRACE_EXPORTS", folder and str(tmp_path / folder))
    ingest.cursor = "kept"
    assert ingest.look() == []
    assert ingest.cursor == "kept"
    assert ingest.skip_message is not None
    assert "HEADRACE_EXPORTS" in ingest.skip_message
    assert "\n" not in ingest.skip_message


@pytest.mark.usefixtures("loaded")
def test_a_cursor_of_another_format_loads_nothing_twice(ingest: Ingest) -> None:
    ingest.cursor = '{"format": 0}'
    assert ingest.look() == []


def arrivals(days: Callable[[str], Sequence[int]]) -> list[Arrival]:
    return [
        Arrival(Partition(table, f"2024-02-{day:02}"), "v", 0) for table in ("orders", "items") for day in days(table)
    ]


@pytest.mark.parametrize(
    ("orders", "items", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], [("items orders", 1, 3)]),
        ([1, 2, 3], [1, 2], [("items orders", 1, 2), ("orders", 3, 3)]),
        ([1, 3], [], [("orders", 1, 1), ("orders", 3, 3)]),
        ([27, 28, 29], [28], [("orders", 27, 27), ("items orders", 28, 28), ("orders", 29, 29)]),
    ],
)
def test_a_run_is_a_range_of_days_of_the_same_tables(
    orders: list[int], items: list[int], expected: list[tuple[str, int, int]]
) -> None:
    found = list(batches(arrivals(lambda table: {"orders": orders, "items": items}[table])))
    number = {None: 0} | {f"2024-02-{day:02}": day for day in range(1, 32)}
    assert [(" ".join(batch.tables), number[batch.first], number[batch.last]) for batch in found] == expected
    assert sum(len(batch.arrivals) for batch in found) == len(orders) + len(items)
    assert len({batch.run_key for batch in found}) == len(found)


def test_a_range_goes_over_the_end_of_a_month() -> None:
    days = ["2024-02-28", "2024-02-29", "2024-03-01"]
    (batch,) = batches([Arrival(Partition("orders", day), "v", 0) for day in days])
    assert isinstance(batch, Batch)
    assert (batch.first, batch.last) == (days[0], days[-1])


@pytest.mark.slow
def test_a_thousand_days(ingest: Ingest, exports: Path, record_property: Callable[[str, object], None]) -> None:
    years = dg.DailyPartitionsDefinition("2021-01-01")
    ingest.sensor = new_exports_sensor(TABLES, years)
    ingest.definitions = dg.Definitions([raw_asset(table, years) for table in TABLES])
    days = [str(date(2021, 1, 1) + timedelta(days=number)) for number in range(1000)]
    for name in ("orders", "items", "tweets"):
        (exports / name).mkdir(parents=True)
        for day in days:
            (exports / name / f"{day}.csv").write_text(f"{name} {day}")
    settle(exports)
    seconds, found = timed(ingest)
    assert found == [(DAILY, days[0], days[-1])]
    measured = {"all new": seconds}

    for name in ("orders", "items", "tweets"):
        for day in days:
            sha256 = hashlib.sha256(f"{name} {day}".encode()).hexdigest()
            ingest.instance.report_runless_asset_event(
                dg.AssetMaterialization(["raw", name], partition=day, metadata={"source_sha256": sha256})
            )
    (exports / "orders" / f"{days[3]}.csv").write_text("corrected")
    settle(exports)
    measured["one new"], found = timed(ingest)
    assert found == [(["raw/orders"], days[3], days[3])]
    measured["nothing new"], found = timed(ingest)
    assert found == []
    size = len(ingest.cursor or "")
    ingest.cursor = None
    measured["all compared"], found = timed(ingest)
    assert len(found) == 1
    took = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in measured.items())
    record_property("measured", f"new_exports over 3 x 1000 days, cursor of {size:,} bytes: {took}")


def test_the_more_exports_there_are_the_less_often_it_looks() -> None:
    assert [seconds_between_looks(number) for number in (0, 3_000, 10_000, 20_000, 1_000_000)] == [5, 5, 15, 30, 30]


@pytest.mark.slow
def test_a_look_at_many_exports_is_not_repeated_at_once(ingest: Ingest, exports: Path) -> None:
    ingest.sensor = new_exports_sensor(TABLES, dg.DailyPartitionsDefinition("2000-01-01"))
    for name in ("orders", "items"):
        (exports / name).mkdir(parents=True)
        for number in range(5_000):
            (exports / name / f"{date(2000, 1, 1) + timedelta(days=number)}.csv").touch()
    settle(exports)
    assert len(ingest.look()) == 1
    (exports / "orders" / "2020-01-01.csv").touch()
    settle(exports)
    assert ingest.look() == []
    assert ingest.skip_message
    assert re.search(r" has 10,000 exports: looking again in 1?\d s$", ingest.skip_message)


def timed(ingest: Ingest) -> tuple[float, list[Requested]]:
    began = time.perf_counter()
    found = ingest.look()
    return time.perf_counter() - began, found
