"""An export folder with two good days of every table, and an empty lake, named by the environment."""

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import duckdb
import pytest

from ingest.engine import engine

DAYS = ("2024-01-01", "2024-01-02", "2024-01-03")

WriteCsv = Callable[[str, Sequence[Sequence[object]]], Path]


def _write_rows(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def _write_good_exports(folder: Path) -> None:
    def write_csv(name: str, rows: Sequence[Sequence[object]]) -> None:
        _write_rows(folder / name, rows)

    write_csv("customers.csv", [("id", "name"), ("c1", "Zoë Ångström"), ("c2", "O'Neil, Ann")])
    write_csv("products.csv", [("sku", "name", "type", "price", "description"), ("J1", "doc", "jaffle", 1100, "")])
    write_csv("stores.csv", [("id", "name", "opened_at", "tax_rate"), ("s1", "Oslo", "2023-09-01T00:00:00", 0.06)])
    write_csv(
        "supplies.csv",
        [
            ("id", "name", "cost", "perishable", "sku"),
            ("u1", "fork", 7, False, "J1"),
            ("u1", "fork", 7, False, "J2"),
        ],
    )
    for day in DAYS:
        order = (f"o{day}", "c1", f"{day}T00:00:00", "s1", 1100, 66, 1166)
        header = ("id", "customer", "ordered_at", "store_id", "subtotal", "tax_paid", "order_total")
        write_csv(f"orders/{day}.csv", [header, order])
        write_csv(f"items/{day}.csv", [("id", "order_id", "sku"), (f"i{day}", f"o{day}", "J1")])
        write_csv(
            f"tweets/{day}.csv",
            [
                ("id", "user_id", "tweeted_at", "content"),
                (f"t{day}", "c1", f"{day} 23:59:59.999999", 'so "good",\nyes'),
            ],
        )


@pytest.fixture
def exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "exports"
    monkeypatch.setenv("HEADRACE_EXPORTS", str(folder))
    return folder


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "lake"
    monkeypatch.setenv("HEADRACE_LAKE", str(folder))
    return folder


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with engine() as opened:
        yield opened


@pytest.fixture
def write_csv(exports: Path) -> WriteCsv:
    return lambda name, rows: _write_rows(exports / name, rows)


@pytest.fixture(scope="session")
def write_good_exports() -> Callable[[Path], None]:
    return _write_good_exports


@pytest.fixture
def good_exports(exports: Path) -> Path:
    _write_good_exports(exports)
    return exports
