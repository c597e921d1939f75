"""One file stands for a table or a day; none or two are errors."""

from pathlib import Path

import pytest

from ingest.exports import ExportError, find_export
from ingest.tables import TABLES

ORDERS = next(table for table in TABLES if table.name == "orders")
STORES = next(table for table in TABLES if table.name == "stores")
DAY = "2024-01-01"


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".jsonl", ".empty"])
def test_each_format_is_found(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "orders").mkdir()
    path = tmp_path / "orders" / (DAY + suffix)
    path.touch()
    assert find_export(tmp_path, ORDERS, DAY).path == path


@pytest.mark.parametrize("other", [".parquet", ".empty"])
def test_two_files_for_one_day_are_both_named(tmp_path: Path, other: str) -> None:
    (tmp_path / "orders").mkdir()
    for suffix in (".csv", other):
        (tmp_path / "orders" / (DAY + suffix)).touch()
    with pytest.raises(ExportError, match=rf"{DAY}\.csv and {DAY}\{other} hold the same rows"):
        find_export(tmp_path, ORDERS, DAY)


def test_a_missing_day_says_what_would_do(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=rf"orders/{DAY}\.csv: no such export .*{DAY}\.empty"):
        find_export(tmp_path, ORDERS, DAY)


def test_a_reference_table_has_no_marker(tmp_path: Path) -> None:
    (tmp_path / "stores.empty").touch()
    with pytest.raises(ExportError, match=r"stores\.csv: no such export \(.*\); add it$"):
        find_export(tmp_path, STORES, None)


def test_the_digest_is_of_the_bytes_and_a_marker_has_a_word(tmp_path: Path) -> None:
    (tmp_path / "stores.csv").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert find_export(tmp_path, STORES, None).sha256() == digest
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / f"{DAY}.empty").touch()
    assert find_export(tmp_path, ORDERS, DAY).sha256() == "empty"
