"""The parts of a deploy that need no processes: history, environment, settings and the unit."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click import ClickException
from click.testing import CliRunner

from headrace.cli.user_errors import UserError
from headrace.deployed import warm_location
from headrace.installation import installation
from headrace.installation.deploy_command import rollback
from headrace.installation.history import History
from headrace.installation.installation import Installation
from headrace.releases.start import command_of, environment_of, read_environment
from headrace.releases.variables import check_built_for

UNITS = Path(installation.__file__).parent / "process/systemd"


def test_a_rollback_takes_the_last_release_away(tmp_path: Path) -> None:
    (tmp_path / "history").mkdir()
    history = History(Installation(tmp_path), "shop")
    for release in "abc":
        history.add("deploy", release, server=f"shop-{release}")
    history.add("refuse", "d", reason="it is bad")
    assert history.serving() == ["a", "b", "c"]
    history.add("rollback", "b", server="shop-4")
    assert history.serving() == ["a", "b"]
    history.add("deploy", "c", server="shop-5")
    assert history.serving() == ["a", "b", "c"]


def test_a_rollback_of_what_was_never_deployed_leaves_nothing() -> None:
    with TemporaryDirectory(dir="/tmp") as made:  # sockets need a short path
        folder = Installation.create(Path(made)).folder
        result = CliRunner().invoke(rollback, ["nope", "--to", str(folder)])
        assert (result.exit_code, result.output.count("\n")) == (2, 1)
        assert "nope: never deployed here: this installation has nothing" in result.output
        assert [*(folder / "locks").iterdir()] == []


def test_half_a_line_of_history_is_none_and_the_next_one_is_whole(tmp_path: Path) -> None:
    (tmp_path / "history").mkdir()
    history = History(Installation(tmp_path), "shop")
    history.add("deploy", "a", server="shop-1")
    with (tmp_path / "history/shop.jsonl").open("a") as file:
        file.write('{"at": "2026-01')
    history.add("deploy", "b", server="shop-2")
    assert [entry.release for entry in history.entries()] == ["a", "b"]


def test_the_environment_is_what_the_file_says(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# a comment\n\nPASSWORD=a b$c'\"=%\nHEADRACE_LAKE=s3://lake\n")
    (tmp_path / "release").mkdir()
    found = environment_of(tmp_path, tmp_path / "release")
    assert found["PASSWORD"] == "a b$c'\"=%"  # noqa: S105
    assert found["HEADRACE_LAKE"] == "s3://lake"
    assert found["DAGSTER_HOME"] == str(tmp_path / "dagster")
    (tmp_path / "env").write_text("A=1\nPASSWORD\n")
    with pytest.raises(ValueError, match="env: line 2: not NAME=VALUE"):
        read_environment(tmp_path / "env")


def test_a_location_finds_the_dbt_project_of_its_release_by_a_variable_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "env").touch()
    release = tmp_path / "releases" / "fin-2-20260101T000000Z-0123456789ab"
    (release / "dbt").mkdir(parents=True)
    assert "HEADRACE_FIN_2_DBT_PROJECT" not in environment_of(tmp_path, release)
    (release / "dbt" / "dbt_project.yml").touch()
    found = environment_of(tmp_path, release)
    assert found["HEADRACE_FIN_2_DBT_PROJECT"] == found["HEADRACE_DBT_PROJECT"] == str(release / "dbt")


def test_a_manifest_is_refused_for_other_variables_and_no_secret_is_told(tmp_path: Path) -> None:
    built = {"HEADRACE_LAKE": "/lake", "HEADRACE_START": None, "REGION": "eu"}
    check_built_for(built, {"HEADRACE_LAKE": "/lake", "REGION": "eu", "OTHER": "1"}, tmp_path / "env")
    with pytest.raises(ClickException) as refused:
        check_built_for(built, {"HEADRACE_LAKE": "s3://me:secret@lake", "HEADRACE_START": "2024-01-01"}, Path("env"))
    assert refused.value.message == (
        "its manifest was built with HEADRACE_LAKE '/lake', not a secret, HEADRACE_START unset, not '2024-01-01', "
        "REGION 'eu', not unset: build it with `--env-file env`, or correct that file"
    )


def test_an_installation_is_made_once_and_its_secrets_are_the_owners(tmp_path: Path) -> None:
    if len(str(tmp_path)) > 60:
        with pytest.raises(UserError, match="choose a shorter folder"):
            Installation.create(tmp_path / ("x" * 60))
    folder = Path("/tmp") / f"hr-{os.getpid()}"  # noqa: S108 - sockets need a short path
    try:
        installation = Installation.create(folder)
        assert (folder / "env").stat().st_mode & 0o077 == 0
        (folder / "env").write_text("A=1\n")
        (folder / "installation.toml").write_text("keep = 1\n")
        Installation.create(folder)
        assert (folder / "env").read_text() == "A=1\n"
        with pytest.raises(UserError, match=r"installation.toml: keep: .*greater than or equal to 2"):
            _ = Installation.at(installation.folder)
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    start = tmp_path / "start"
    start.write_text("#!/bin/sh\n")
    start.chmod(0o755)
    (unit,) = UNITS.iterdir()
    lines = unit.read_text().replace("User=headrace", "User=root").splitlines()
    command = [f"ExecStart={start}" if line.startswith("ExecStart=") else line for line in lines]
    (tmp_path / unit.name).write_text("\n".join(command))
    result = subprocess.run(
        ["/usr/bin/systemd-analyze", "verify", str(tmp_path / unit.name)], check=False, capture_output=True, text=True
    )
    said = [line for line in result.stderr.splitlines() if "headrace" in line]
    assert (result.returncode, said) == (0, []), result.stderr


def test_an_installation_that_units_kept_is_told_what_to_do(tmp_path: Path) -> None:
    settings = tmp_path / "installation.toml"
    settings.write_text('processes = "supervisor"\nkeep = 4\n')
    assert Installation.at(tmp_path).settings.keep == 4
    settings.write_text('processes = "systemd"\n')
    with pytest.raises(UserError) as error:
        Installation.at(tmp_path)
    assert error.value.message == (
        f"{settings}: processes: a unit for each server is no longer kept: disable the units headrace-*@, take the "
        "line out, and enable headrace-supervisor.service, which starts what is deployed"
    )


def test_a_code_server_forks_its_runs_where_its_release_has_the_program_for_it(tmp_path: Path) -> None:
    """`start.py` says by itself what `warm_location.py` is called and takes: it imports nothing of Headrace."""
    release, server = tmp_path / "releases" / "shop-1", tmp_path / "servers" / "shop-1"
    for folder in (release, server):
        folder.mkdir(parents=True)
    (release / "release.json").write_text(json.dumps({"module": "shop.defs", "location": "shop"}))
    before = command_of(tmp_path, server, release, "server")
    assert before[:3] == (str(release / "venv/bin/dagster"), "api", "grpc")
    shutil.copy(str(warm_location.__file__), release)
    now = command_of(tmp_path, server, release, "server")
    program = str(release / Path(str(warm_location.__file__)).name)
    forks = str(server / "runs")
    assert now == (str(release / "venv/bin/python"), program, warm_location.SERVE, forks, *before[3:])


def test_a_worker_of_a_location_takes_its_queue(tmp_path: Path) -> None:
    release, server = tmp_path / "releases" / "shop-1", tmp_path / "servers" / "shop-1"
    for folder in (release, server):
        folder.mkdir(parents=True)
    (release / "release.json").write_text(json.dumps({"module": "shop.defs", "location": "shop"}))
    celery, *arguments = command_of(tmp_path, server, release, "worker")
    assert celery == str(release / "venv/bin/celery")
    assert arguments[arguments.index("--queues") + 1] == "dagster-shop"
    assert arguments[:3] == ["--app", "dagster_celery.app", "worker"]
