"""Which files of an export folder count, and for which days."""

from datetime import date
from pathlib import Path

import pytest

from headrace.main_job.exports import ExportFiles


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("stores.csv", "orders/2024-02-01.csv", "orders/2024-02-03.empty", "notes/2030-01-01.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize("name", ["2024-02-30.csv", "2024-13-01.csv", "0000-00-00.empty", "2024-02-02.txt", "README"])
def test_a_name_that_is_no_day_is_nobodys(folder: Path, name: str) -> None:
    (folder / "orders" / name).touch()
    assert sorted(ExportFiles.of(folder).days["orders"]) == ["2024-02-01", "2024-02-03"]
    assert ExportFiles.of(folder).bounds({"orders"}) == (date(2024, 2, 1), date(2024, 2, 3))


def test_a_folder_in_place_of_a_file_is_nobodys(folder: Path) -> None:
    (folder / "orders/2024-02-02.csv").mkdir()
    assert "2024-02-02" not in ExportFiles.of(folder).days["orders"]


def test_the_days_are_those_of_tables_that_are_loaded(folder: Path) -> None:
    files = ExportFiles.of(folder)
    assert files.bounds({"orders", "tweets"}) == (date(2024, 2, 1), date(2024, 2, 3))
    assert files.bounds(set()) is None
    assert files.bounds() == (date(2024, 2, 1), date(2030, 1, 1))
    assert files.bounds(until=date(2024, 2, 2)) == (date(2024, 2, 1), date(2024, 2, 1))
    assert files.bounds(until=date(2024, 1, 31)) is None
