"""dbt in a fork of a process that loads to be forked, or of a server: the same manifest, and the same words."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SOURCE = Path(__file__).parents[1] / "projects" / "minimal"
# A process of its own, with one thread. It says each program that it starts.
LOADS = """
import json, os, sys, threading
programs = []

def watch(event, arguments):
    if event == "os.fork":
        programs.append("fork")
    elif event == "subprocess.Popen" and arguments[0] == sys.executable:
        programs.append("interpreter")

sys.addaudithook(watch)
from dagster_dbt_common import DbtConfigError, prepared_project
from dagster_dbt_common.project.parsing import keep_dbt
if sys.argv[2] != "alone":
    threading.Thread(target=threading.Event().wait, daemon=True).start()
if sys.argv[2] == "server":
    keep_dbt()
try:
    said = str(prepared_project(sys.argv[1]).manifest_path)
except DbtConfigError as error:
    said = f"failed: {error}"
print(json.dumps({"said": said, "programs": programs, "folder": os.getcwd()}))
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINIMAL_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("MINIMAL_WAREHOUSE", str(tmp_path / "warehouse.duckdb"))
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(SOURCE, tmp_path / "project"))


def load(project: Path, how: str = "alone") -> dict[str, object]:
    done = subprocess.run([sys.executable, "-c", LOADS, str(project), how], check=True, capture_output=True, text=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def content(project: Path) -> object:
    """Return the one manifest, without what differs from parse to parse."""
    (file,) = (project / "target/dagster").glob("*/manifest.json")
    manifest = json.loads(file.read_text())
    for node in (*manifest["nodes"].values(), *manifest["sources"].values(), *manifest["macros"].values()):
        node.pop("created_at", None)
    return {name: manifest[name] for name in ("nodes", "sources", "macros", "parent_map")}


@pytest.mark.some_of("parses in a fork", 1)
def test_a_fork_makes_the_manifest_that_a_new_interpreter_makes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = load(project)
    assert started["programs"] == ["interpreter"]
    made = content(project)
    shutil.rmtree(project / "target")
    assert load(project, "server") == {**started, "programs": []}
    assert content(project) == made
    shutil.rmtree(project / "target")
    monkeypatch.setenv("HEADRACE_PRELOADED_LOCATIONS", "{}")
    assert load(project) == {**started, "programs": ["fork"]}
    assert content(project) == made
    assert not list((project / "target/dagster").glob(".building-*"))


@pytest.mark.some_of("parses in a fork", 1)
def test_a_process_with_several_threads_is_not_forked(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_PRELOADED_LOCATIONS", "{}")
    assert load(project, "threads")["programs"] == ["interpreter"]


@pytest.mark.some_of("parses in a fork", 1)
def test_what_dbt_cannot_parse_is_told_in_the_same_line(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "models" / "totals.sql").write_text("select * from {{ ref('nothing') }}")
    started = load(project, "server")["said"]
    monkeypatch.setenv("HEADRACE_PRELOADED_LOCATIONS", "{}")
    assert load(project)["said"] == started
    assert "depends on a node named 'nothing' which was not found" in str(started)
