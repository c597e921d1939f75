"""A disk that is full costs a run, and no row: the next one, with room again, is as if nothing had been."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.conftest import OpenShop, Shop

pytestmark = [
    pytest.mark.slow("builds a shop on a small disk, twice, and another one beside it"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="a file system is mounted, which needs root"),
]

FIRST, LAST = "2024-01-30", "2024-01-31"
KILOBYTE = 1024


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of 80 MB."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"this root may not mount a file system, as in many containers: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)  # noqa: S607


@contextmanager
def filled(disk: Path, *, but: int) -> Iterator[None]:
    """Leave so many bytes of a disk."""
    file = disk / "filler"
    with file.open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, shutil.disk_usage(disk).free - but)
    try:
        yield
    finally:
        file.unlink()


def contents(shop: Shop) -> Mapping[str, list[tuple[Any, ...]]]:
    """Return the rows of each table, in an order of their own, without what says when a snapshot was taken."""
    with duckdb.connect(shop.warehouse, read_only=True) as connection:
        tables = connection.execute("select table_name from duckdb_tables() order by all").fetchall()
        times = "columns(c -> c not in ('dbt_scd_id', 'dbt_updated_at', 'dbt_valid_from', 'dbt_valid_to'))"
        return {name: connection.execute(f"select {times} from {name} order by all").fetchall() for (name,) in tables}


@pytest.mark.some_of("disturbances", 1)
@pytest.mark.parametrize("kilobytes", [20, 300, 2500])
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path, open_shop: OpenShop, kilobytes: int) -> None:
    with small_disk(tmp_path / "disk") as disk:
        shop = open_shop(disk / "shop", FIRST)
        shop.demo_data("--from", FIRST, "--to", LAST, "--orders-per-day", "60")
        shop.run()
        shop.demo_data("--revise", FIRST)
        with filled(disk, but=kilobytes * KILOBYTE):
            failed = shop.call("run")
            assert failed.returncode == 1
            assert shop.left() == []
            # It is the command that fails, or a run, which is in the report.
            errors = [line for line in failed.stderr.splitlines() if line.startswith("Error: ")]
            assert [line.partition("(")[0] for line in errors] in ([], ["Error: no space is left on a disk "])
            assert errors or failed.stdout.splitlines()[-1].startswith("failed in ")
            assert "Traceback" not in failed.stderr
        assert "customers" in shop.run()
        undisturbed = open_shop(tmp_path / "undisturbed", FIRST)
        shutil.copytree(shop.exports, undisturbed.exports)
        undisturbed.run()
        assert contents(shop) == contents(undisturbed)
