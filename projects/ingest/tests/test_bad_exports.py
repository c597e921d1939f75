"""Each export of a corpus of wrong ones is refused in a line that says where; the day is as before, others load."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from bad_exports import BAD, DAY, GOOD, HEADER
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.exports import ExportError
from ingest.lake import FolderLake
from ingest.loading import load
from ingest.tables import Column, Table
from ingest.validation import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import duckdb

pytestmark = pytest.mark.slow("writes a hundred exports, some of 50 MB")

TYPES = (("id", "varchar"), ("part", "bigint"), ("at", "timestamp"), ("ratio", "double"), ("flag", "boolean"))
EVENTS = Table(
    name="events",
    description="One column of each type.",
    columns=(
        *(Column(name, type_, "", minimum=-5 if name == "ratio" else None) for name, type_ in TYPES),  # type: ignore[arg-type]
        Column("note", "varchar", ""),
    ),
    key=("id", "part"),
    daily=True,
    event_time="at",
)
WINDOWS = {day: Window(datetime(2024, 2, day), datetime(2024, 2, day + 1)) for day in (3, 4)}  # noqa: DTZ001


class Shop:
    """The exports of two days, and the lake that they are loaded into."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
        self.connection, self.folder = connection, folder
        self.day = folder / "exports" / "events"
        self.day.mkdir(parents=True, exist_ok=True)

    def load(self, day: int = 3) -> int:
        lake = FolderLake(self.folder / "lake")
        name = f"2024-02-0{day}"
        exports = self.folder / "exports"
        return load(self.connection, EVENTS, exports=exports, lake=lake, day=name, window=WINDOWS[day]).rows

    def files(self) -> dict[str, bytes]:
        lake = self.folder / "lake"
        return {str(path.relative_to(lake)): path.read_bytes() for path in lake.rglob("*") if path.is_file()}


@pytest.fixture
def shop(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> Shop:
    return Shop(connection, tmp_path)


def test_the_corpus_is_large() -> None:
    assert len(BAD) >= 60


@pytest.mark.parametrize("name", BAD)
def test_it_is_refused_in_a_line_that_says_where(shop: Shop, name: str) -> None:
    (shop.day / f"{DAY}.csv").write_text(HEADER + GOOD)
    assert shop.load() == 1
    before = shop.files()
    (shop.day / f"{DAY}.csv").unlink()

    ending, write, says = BAD[name]
    path = shop.day / f"{DAY}.{ending}"
    write(path)
    with pytest.raises(ExportError) as caught:
        shop.load()
    said = str(caught.value)
    assert said.startswith(f"{path}{says}" if says.startswith((",", ":")) else str(path))
    assert says in said
    assert "\n" not in said
    assert len(said) < len(str(path)) + 500
    assert shop.files() == before
    (shop.day / "2024-02-04.csv").write_text(HEADER + GOOD.replace("02-03", "02-04"))
    assert shop.load(4) == 1


def test_what_is_no_file_of_the_folder_is_refused_and_other_days_are_loaded(shop: Shop) -> None:
    path = shop.day / f"{DAY}.csv"
    (shop.day / "2024-02-04.csv").write_text(HEADER + GOOD.replace("02-03", "02-04"))
    elsewhere = shop.folder / "elsewhere.csv"
    elsewhere.write_text(HEADER + GOOD)
    kinds: Mapping[str, Callable[[], object]] = {
        "is a folder: put the export there": path.mkdir,
        "is a link that leads nowhere: put the export there": lambda: path.symlink_to("/nowhere/2024-02-03.csv"),
        "is no file: put the export there": lambda: os.mkfifo(path),
        f"is a link to {elsewhere}: put the export itself there": lambda: path.symlink_to(elsewhere),
    }
    for says, make in kinds.items():
        make()
        with pytest.raises(ExportError) as raised:
            shop.load()
        assert str(raised.value) == f"{path}: {says}"
        assert shop.load(4) == 1
        assert list(shop.files()) == ["raw/events/day=2024-02-04/data.parquet"]
        path.rmdir() if path.is_dir() else path.unlink()
    # A link within the folder is one to an export.
    (shop.day / "of_the_day").write_text(HEADER + GOOD)
    path.symlink_to("of_the_day")
    assert shop.load() == 1


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_any_damage_is_refused_in_a_line_or_leaves_all_rows(shop: Shop, data: st.DataObject) -> None:
    """Bytes of a good file are changed, taken out and put in: what is loaded has a row for each line, or nothing is."""
    good = (HEADER + "".join(f"k{number},{number},2024-02-03,0.5,true,x\n" for number in range(20))).encode()
    begin = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(begin, min(begin + 8, len(good))))
    damaged = good[:begin] + data.draw(st.binary(max_size=8)) + good[end:]
    (shop.day / f"{DAY}.csv").write_bytes(damaged)
    said, rows = "", None
    try:
        rows = shop.load()
    except ExportError as error:
        said = str(error)
    # A new line feed splits a row, which then has too few fields: only blank lines and the header are no rows.
    whole = sum(bool(line.strip(b"\r")) for line in damaged.split(b"\n")) - 1
    assert rows == whole if rows is not None else said.startswith(str(shop.day))
    assert "\n" not in said
