"""A reader of the lake sees the old file or the new one, also when the writer is killed."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ingest.lake import FolderLake, open_lake
from ingest.settings import SettingError

NAME = "raw/orders/day=2024-01-01/data.parquet"

# Replaces the file again and again, each version being one letter repeated, written in slices.
ENDLESS_WRITER = """
import itertools, sys
from pathlib import Path
from ingest.lake import FolderLake

def write(path, letter):
    with path.open("wb") as file:
        for _ in range(64):
            file.write(letter * 8192)
            file.flush()

lake = FolderLake(Path(sys.argv[1]))
for letter in itertools.cycle([b"a", b"b", b"c"]):
    lake.replace(sys.argv[2], lambda path: write(path, letter))
    print(flush=True)
"""


def put(lake: FolderLake, data: bytes) -> int:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return lake.replace(NAME, write)


def temporaries(folder: Path) -> list[Path]:
    return [path for path in (folder / NAME).parent.iterdir() if path.name != "data.parquet"]


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    lake = FolderLake(tmp_path)
    assert put(lake, b"old") == 3
    assert put(lake, b"newer") == 5
    assert Path(lake.location(NAME)).read_bytes() == b"newer"
    assert temporaries(tmp_path) == []


def test_a_writer_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    lake = FolderLake(tmp_path)
    put(lake, b"old")

    def write(path: Path) -> None:
        path.write_bytes(b"ne")
        assert (tmp_path / NAME).read_bytes() == b"old"
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        lake.replace(NAME, write)
    assert (tmp_path / NAME).read_bytes() == b"old"
    assert temporaries(tmp_path) == []


def test_an_orphan_goes_and_a_live_writers_file_stays(tmp_path: Path) -> None:
    lake = FolderLake(tmp_path)
    put(lake, b"old")
    orphan, alive = ((tmp_path / NAME).with_name(f".data.parquet.{name}.tmp") for name in ("dead", "alive"))
    orphan.write_bytes(b"ha")
    with alive.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        put(lake, b"new")
        assert temporaries(tmp_path) == [alive]
    put(lake, b"newer")
    assert temporaries(tmp_path) == []


@pytest.mark.slow
def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / NAME
    seen_orphans = 0
    for attempt in range(24):
        with subprocess.Popen(
            [sys.executable, "-c", ENDLESS_WRITER, str(tmp_path), NAME], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            # The next version is on its way once the first is reported.
            writer.stdout.readline()
            deadline = time.monotonic() + attempt * 0.0007
            while time.monotonic() < deadline:
                assert_whole(path.read_bytes())
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        assert_whole(path.read_bytes())
        orphans = temporaries(tmp_path)
        seen_orphans += len(orphans)
        assert not any(orphan.match("*.parquet") for orphan in orphans)
        put(FolderLake(tmp_path), b"x" * 8192 * 64)
        assert temporaries(tmp_path) == []
    # Otherwise no kill hit a write, and the test proved nothing.
    assert seen_orphans > 0


def assert_whole(data: bytes) -> None:
    assert len(data) == 8192 * 64
    assert data == data[:1] * len(data)


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    lake = open_lake(f"file://{tmp_path}")
    assert isinstance(lake, FolderLake)
    assert lake.location(NAME) == str(tmp_path / NAME)


def test_a_store_without_atomic_replace_is_refused() -> None:
    with pytest.raises(SettingError, match=r"^HEADRACE_LAKE: 'sftp://host/lake' has no atomic replace"):
        open_lake("sftp://host/lake")


def test_files_are_readable_by_others(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        put(FolderLake(tmp_path), b"x")
    finally:
        os.umask(old)
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o644
