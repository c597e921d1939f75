"""Where a workspace is, and the one-line errors of the commands."""

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from headrace.cli.main import main
from headrace.cli.user_errors import UserError
from headrace.workspace import Workspace

VARIABLES = ("STATE", "START", "EXPORTS", "LAKE", "WAREHOUSE", "DBT_PROJECT")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a workspace that is the current folder, in an environment that says nothing of it."""
    for variable in (*(f"HEADRACE_{name}" for name in VARIABLES), "DAGSTER_HOME"):
        monkeypatch.delenv(variable, raising=False)
    root = tmp_path.resolve() / "workspace"
    root.mkdir()
    (root / "workspace.yaml").write_text(
        "load_from:\n"
        "  - python_module: {module_name: shop.definitions, location_name: shop}\n"
        "  - python_module: {module_name: plain.definitions}\n"
        "  - grpc_server: {host: elsewhere, port: 4000}\n"
    )
    monkeypatch.chdir(root)
    return root


def call(*arguments: str, **environment: str) -> Result:
    before = dict(os.environ)
    try:
        return CliRunner().invoke(main, list(arguments), env=environment)
    finally:
        os.environ.clear()
        os.environ.update(before)


def assert_refused(result: Result, message: str) -> None:
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.removeprefix("Error: ") == f"{message}\n"


def test_a_workspace_is_found_from_within(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = root / "projects" / "shop"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    workspace = Workspace.find({})
    assert workspace.root == root
    assert {name: entry.module for name, entry in workspace.locations.items()} == {
        "shop": "shop.definitions",
        "plain.definitions": "plain.definitions",
        "grpc:elsewhere:4000": None,
    }
    assert workspace.start == date(2024, 1, 1)
    assert (
        workspace.environment().items()
        >= {
            "HEADRACE_START": "2024-01-01",
            "HEADRACE_EXPORTS": str(root / ".headrace" / "exports"),
            "HEADRACE_LAKE": str(root / ".headrace" / "lake"),
            "HEADRACE_WAREHOUSE": str(root / ".headrace" / "warehouse.duckdb"),
            "DAGSTER_HOME": str(root / ".headrace" / "dagster"),
        }.items()
    )


def test_the_environment_says_each_path(root: Path) -> None:
    workspace = Workspace.find({"HEADRACE_STATE": "state", "HEADRACE_LAKE": "s3://lake/it", "DAGSTER_HOME": "home"})
    assert workspace.lake == "s3://lake/it"
    assert workspace.dagster_home == root / "home"
    assert workspace.warehouse == root / "state" / "warehouse.duckdb"
    workspace = Workspace.find({"HEADRACE_LAKE": "lake", "HEADRACE_START": "2018-09-01"})
    assert (workspace.lake, workspace.start) == (str(root / "lake"), date(2018, 9, 1))


def test_an_instance_keeps_its_own_configuration(root: Path) -> None:
    workspace = Workspace.find({})
    workspace.prepare()
    config = root / ".headrace" / "dagster" / "dagster.yaml"
    assert "telemetry: {enabled: false}" in config.read_text()
    config.write_text("{}\n")
    workspace.prepare()
    assert config.read_text() == "{}\n"


@pytest.mark.parametrize("command", ["run", "init"])
def test_outside_a_workspace(root: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    outside = root.parent
    monkeypatch.chdir(outside)
    assert_refused(call(command), f"no folder at or above {outside} holds workspace.yaml: go to a Headrace workspace")
    with pytest.raises(UserError):
        Workspace.find({})


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("command", ["run", "init"])
@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("HEADRACE_START", "abc", "HEADRACE_START: 'abc' is not an ISO date; write it like 2024-01-01"),
        ("HEADRACE_START", "0001-01-01", "HEADRACE_START: 0001-01-01 is before 1000, where no partitions can begin"),
        (
            "HEADRACE_LAKE",
            "ftp://shop/lake",
            "HEADRACE_LAKE: 'ftp://shop/lake' is no folder, and no URL of file, local, s3, s3a, gs, az, abfs, abfss",
        ),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_anything_is_made(
    command: str, variable: str, value: str, message: str
) -> None:
    assert_refused(call(command, **{variable: value}), message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "--from 2024-02-01 --to 2024-01-01",
            "the first day, 2024-02-01, is after the last, 2024-01-01: change --from, --to or HEADRACE_START",
        ),
        (
            "--from 2023-12-31 --to 2024-01-01",
            "--from 2023-12-31 is before the first partition, 2024-01-01: set HEADRACE_START earlier",
        ),
        ("--from monday", "Invalid value for '--from': 'monday' does not match the format '%Y-%m-%d'."),
        ("--format yaml", "Invalid value for '--format': 'yaml' is not one of 'text', 'json'."),
        ("--until 2024-01-01", "No such option '--until'."),
    ],
)
def test_a_wrong_call_of_run_makes_nothing(root: Path, arguments: str, message: str) -> None:
    assert_refused(call("run", *arguments.split()), message)
    assert not (root / ".headrace" / "exports").exists()


def test_days_that_the_exports_do_not_reach(root: Path) -> None:
    (root / ".headrace" / "exports" / "orders").mkdir(parents=True)
    (root / ".headrace" / "exports" / "orders" / "2024-01-05.csv").touch()
    message = "the first day, 2024-02-01, is after the last, 2024-01-05: change --from, --to or HEADRACE_START"
    assert_refused(call("run", HEADRACE_START="2024-02-01"), message)


@pytest.mark.slow
def test_a_location_that_does_not_load(root: Path) -> None:
    (root / "workspace.yaml").write_text("load_from:\n  - python_module: {module_name: shop.definitions}\n")
    (root / "shop").mkdir()
    (root / "shop" / "__init__.py").touch()
    definitions = root / "shop" / "definitions.py"
    definitions.write_text("import dagster as dg\n\ndefs = dg.Definitions(\n")
    (root / ".headrace" / "exports" / "orders").mkdir(parents=True)
    (root / ".headrace" / "exports" / "orders" / "2024-01-05.empty").touch()
    result = subprocess.run(
        [Path(sys.executable).parent / "headrace", "run"],
        check=False,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (1, "")
    log = root / ".headrace" / "dagster" / "processes" / "shop.definitions.log"
    assert result.stderr == (
        "Error: shop.definitions ended with exit code 1 before it served: "
        f"SyntaxError: '(' was never closed ({definitions}, line 3); full log: {log}\n"
    )


def test_help_and_version_name_every_command() -> None:
    result = call("--help")
    assert result.exit_code == 0
    assert {line.split()[0] for line in result.stdout.partition("Commands:")[2].splitlines() if line.strip()} >= {
        "demo-data",
        "init",
        "run",
    }
    assert ", version " in call("--version").stdout


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("no-such-verb", "No such command 'no-such-verb': see `headrace --help`"),
        ("--no-such", "No such option '--no-such'."),
    ],
)
def test_a_verb_that_there_is_not(word: str, message: str) -> None:
    assert_refused(call(word), message)


@pytest.mark.parametrize(
    ("environment", "target"),
    [
        ({}, None),
        ({"HEADRACE_TARGET": "postgres"}, "postgres"),
        ({"DBT_TARGET": "ducklake_s3"}, "ducklake"),
        ({"HEADRACE_TARGET": "ducklake", "DBT_TARGET": "ducklake_s3"}, "ducklake"),
    ],
)
@pytest.mark.usefixtures("root")
def test_the_target_is_what_either_variable_names(environment: dict[str, str], target: str | None) -> None:
    assert Workspace.find(environment).target == target


@pytest.mark.usefixtures("root")
def test_two_targets_are_refused() -> None:
    with pytest.raises(UserError, match=r"^HEADRACE_TARGET=duckdb and DBT_TARGET=postgres name two targets"):
        Workspace.find({"HEADRACE_TARGET": "duckdb", "DBT_TARGET": "postgres"})
