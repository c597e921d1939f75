"""The manifest of a project: built once for what dbt reads, and refused where it cannot be built."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import yaml

from dagster_dbt_common import MACROS_DIR, DbtConfigError, StaleManifestError, prepared_project
from dagster_dbt_common.project.duckdb_file import duckdb_file
from dagster_dbt_common.project.fingerprint import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).parents[1] / "projects" / "minimal"
NOBODY = 65534
PROCESSES = 10 if os.environ.get("HEADRACE_THOROUGH") else 4


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINIMAL_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("MINIMAL_WAREHOUSE", str(tmp_path / "warehouse.duckdb"))
    return Path(shutil.copytree(SOURCE, tmp_path / "project"))


def hash_of(project: Path) -> str:
    return Fingerprint.of(project, project, []).hash


def test_a_changed_file_or_variable_or_choice_has_another_hash(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = [hash_of(project)]
    (project / "models" / "totals.sql").write_text("select 1 as store")
    hashes.append(hash_of(project))
    (project / "models" / "totals.sql").rename(project / "models" / "sums.sql")
    hashes.append(hash_of(project))
    monkeypatch.setenv("MINIMAL_LAKE", "/elsewhere")
    hashes.append(hash_of(project))
    hashes.append(Fingerprint.of(project, project, ["--target", "other"]).hash)
    assert len(set(hashes)) == len(hashes)


def test_what_dbt_does_not_read_has_the_same_hash(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = hash_of(project)
    monkeypatch.setenv("A_VARIABLE_THAT_NOTHING_READS", "1")
    for folder in ("target", "logs", ".git"):
        (project / folder).mkdir()
        (project / folder / "file").write_text("new")
    assert hash_of(project) == before


def test_a_database_file_in_the_project_has_the_same_hash(project: Path) -> None:
    before = hash_of(project)
    (project / "jaffle_shop.duckdb").write_bytes(b"rows")
    assert hash_of(project) == before


def test_a_dangling_link_is_no_reason_to_fail(project: Path) -> None:
    (project / "models" / ".#totals.sql").symlink_to("user@host.1234")
    assert hash_of(project)


def test_no_project_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DbtConfigError, match=r"there is no dbt_project.yml: give the folder of a dbt project$"):
        prepared_project(tmp_path)


@contextmanager
def read_only() -> Iterator[Path]:
    """Give a copy of the project that this process cannot write, also where it is root."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        project = Path(shutil.copytree(SOURCE, Path(folder, "project")))
        project.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(NOBODY)
        try:
            yield project
        finally:
            os.seteuid(user)
            project.chmod(0o755)


def test_a_project_that_can_not_be_written_is_refused_with_what_mends_it() -> None:
    with read_only() as project, pytest.raises(StaleManifestError) as raised:
        prepared_project(project)
    assert str(project) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (project / "target").exists()


@pytest.mark.slow("parses a project anew for each test, and by several processes at once")
def test_a_project_that_dbt_can_not_parse_is_refused_in_the_words_of_dbt(project: Path) -> None:
    (project / "models" / "totals.sql").write_text("select * from {{ ref('nowhere') }}")
    with pytest.raises(DbtConfigError, match="depends on a node named 'nowhere' which was not found"):
        prepared_project(project)
    assert not list((project / "target" / "dagster").glob("*/manifest.json"))
    assert not list((project / "target" / "dagster").glob(".building-*"))


@pytest.mark.slow
def test_processes_at_once_build_one_manifest(project: Path, tmp_path: Path) -> None:
    # Python imports this first in every process, dbt's included: a line for each start of `dbt parse`.
    (tmp_path / "site").mkdir()
    parses = tmp_path / "parses"
    (tmp_path / "site" / "sitecustomize.py").write_text(
        f"import sys\nif 'parse' in sys.orig_argv:\n    open({str(parses)!r}, 'a').write('parse\\n')\n"
    )
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    code = "import sys; from dagster_dbt_common import prepared_project as p; print(p(sys.argv[1]).manifest_path)"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, project], env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE
        )
        for _ in range(PROCESSES)
    ]
    answers = {process.communicate()[0] for process in processes}
    assert {process.returncode for process in processes} == {0}
    assert len(answers) == 1
    assert parses.read_text() == "parse\n"
    state = project / "target" / "dagster"
    assert [path.parent.name for path in state.glob("*/manifest.json")] == [hash_of(project)]
    assert not list(state.glob(".building-*"))


def parses(process: psutil.Process) -> bool:
    """Return whether a process runs `dbt parse`."""
    with suppress(psutil.Error):
        return any("parse" in child.cmdline() for child in process.children(recursive=True))
    return False


@pytest.mark.slow
def test_builders_that_are_killed_leave_the_manifest_to_the_others(project: Path) -> None:
    code = "import sys; from dagster_dbt_common import prepared_project as p; print(p(sys.argv[1]).manifest_path)"
    state = project / "target" / "dagster"
    orphans: list[psutil.Process] = []
    with ExitStack() as stack:
        command = [sys.executable, "-c", code, project]
        begun = [stack.enter_context(psutil.Popen(command, stdout=subprocess.PIPE)) for _ in range(PROCESSES)]
        for number in range(PROCESSES // 2):
            deadline = time.monotonic() + 120
            # The one that runs dbt, while the others wait for it.
            while not (builders := [each for each in begun if parses(each)]):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            (builder,) = builders
            orphans += builder.children(recursive=True)
            time.sleep(0.3 * number)  # at another moment each time
            builder.kill()
            begun.remove(builder)
            assert list(state.glob(".building-*")), "what it made is left"
        answers = {each.communicate(timeout=120)[0] for each in begun}
        assert {each.returncode for each in begun} == {0}
    assert psutil.wait_procs(orphans, timeout=60)[1] == []
    assert answers == {f"{state / hash_of(project) / 'manifest.json'}\n".encode()}
    (project / "models" / "totals.sql").write_text("select 1 as store")
    prepared_project(project)
    assert not list(state.glob(".building-*"))


@pytest.mark.slow
def test_a_project_may_name_the_macros_by_the_variable_alone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_DBT_COMMON_MACROS", raising=False)
    config = project / "dbt_project.yml"
    config.write_text(config.read_text().replace("('DAGSTER_DBT_COMMON_MACROS', '')", "('DAGSTER_DBT_COMMON_MACROS')"))
    code = """
import sys
from dagster_dbt_common import DbtResource, prepared_project
DbtResource.of(prepared_project(sys.argv[1])).cli(["seed"]).wait()
"""
    done = subprocess.run([sys.executable, "-c", code, project], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_macros_are_in_the_package() -> None:
    assert {path.name for path in MACROS_DIR.glob("*.sql")} >= {"in_window.sql", "delete_window_insert.sql"}


@pytest.mark.slow
def test_the_target_that_dbts_own_variable_names_is_that_of_the_manifest_and_of_the_runs(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles = project / "profiles.yml"
    (name,) = yaml.safe_load(profiles.read_text())
    outputs = {each: {"type": "duckdb", "path": str(project / f"{each}.duckdb")} for each in ("dev", "prod")}
    profiles.write_text(yaml.safe_dump({name: {"target": "dev", "outputs": outputs}}))
    found = {}
    for target in (None, "prod"):
        if target:
            monkeypatch.setenv("DBT_TARGET", target)
        prepared = prepared_project(project)
        manifest = json.loads(prepared.manifest_path.read_text())
        found[target] = (duckdb_file(prepared, manifest), prepared.target, prepared.manifest_path)
    assert found[None][:2] == (project / "dev.duckdb", None)
    assert found["prod"][:2] == (project / "prod.duckdb", "prod")
    assert found[None][2] != found["prod"][2]
    monkeypatch.setenv("DBT_TARGET", "elsewhere")
    with pytest.raises(DbtConfigError, match="does not have a target named 'elsewhere'"):
        prepared_project(project)
