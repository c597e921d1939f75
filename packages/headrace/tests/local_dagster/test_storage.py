"""The databases of an instance, which several processes would make."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest


@pytest.mark.slow("processes")
def test_processes_that_open_a_new_instance_at_once_make_its_databases_once(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    command = [sys.executable, "-m", "headrace.storage"]
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path)}
    begun = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate(timeout=120)[1] for process in begun]
    assert [process.returncode for process in begun] == [0] * 4, said
    databases = sorted(tmp_path.rglob("*.db"), key=lambda file: file.name)
    assert [file.name for file in databases] == ["index.db", "runs.db", "schedules.db"]
    for database in databases:
        with closing(sqlite3.connect(database)) as file:
            assert file.execute("select count(*) from alembic_version").fetchone() == (1,), database
