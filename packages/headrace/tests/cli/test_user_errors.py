"""What is no mistake of a command's is one line too: a disk that is full, a history that another process holds."""

from __future__ import annotations

import errno
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import click
import pytest
import sqlalchemy
from click.testing import CliRunner

from headrace.cli.user_errors import OneLineCommand

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def said_of(call: Callable[[], object]) -> tuple[int, str]:
    result = CliRunner().invoke(click.command(cls=OneLineCommand)(call), [])
    return result.exit_code, result.output


def test_a_history_that_another_process_holds(tmp_path: Path) -> None:
    file = tmp_path / "runs.db"
    with closing(sqlite3.connect(file)) as other:
        other.execute("create table runs (id)")
        other.execute("begin exclusive")
        engine = sqlalchemy.create_engine(f"sqlite:///{file}", connect_args={"timeout": 0})

        def read() -> None:
            with engine.connect() as connection:
                connection.execute(sqlalchemy.text("select * from runs"))

        line = "Error: Dagster's history is in use (database is locked): end what holds its files, and call it again\n"
        assert said_of(read) == (1, line)
        engine.dispose()


def test_a_disk_that_is_full() -> None:
    def write() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "data.parquet")

    code, said = said_of(write)
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith("Error: no space is left on a disk (")


def test_any_other_error_keeps_its_trace() -> None:
    def fail() -> None:
        raise sqlite3.OperationalError("no such table: runs")

    with pytest.raises(sqlite3.OperationalError):
        CliRunner().invoke(click.command(cls=OneLineCommand)(fail), [], catch_exceptions=False)
