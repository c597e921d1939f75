"""Dagster's own command line, as its documentation says, in this workspace."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
import requests
import yaml

from headrace.demo.export import write_demo_data
from headrace.demo.shop import FIRST_DAY

# Each command of `dg` loads a location, and `dg dev` both; that takes up to half a minute each on a busy machine.
pytestmark = [pytest.mark.slow("calls of dg, of which each loads the locations"), pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
LOCATIONS = sorted(
    entry["python_module"]["location_name"]
    for entry in yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
)
EDGE = """
{
  workspaceOrError { ... on Workspace { locationEntries { name loadStatus locationOrLoadError { __typename } } } }
  assetNodes { assetKey { path } dependencyKeys { path } isPartitioned repository { location { name } } }
}
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return an environment in which all state is in a folder of its own, with a Dagster instance made."""
    folder = tmp_path_factory.mktemp("dg")
    shutil.copytree(ROOT / "dbt", folder / "dbt", ignore=shutil.ignore_patterns("target", "logs"))
    write_demo_data(folder / "exports", FIRST_DAY, FIRST_DAY, 10, 1)
    ours = ("HEADRACE_", "DAGSTER_", "DG_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    asked = inherited | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "HEADRACE_STATE": str(folder),
        "HEADRACE_DBT_PROJECT": str(folder / "dbt"),
    }
    made = subprocess.run([BIN / "headrace", "init"], check=True, cwd=ROOT, env=asked, capture_output=True, text=True)
    told = dict(words[1].split("=", 1) for words in map(shlex.split, made.stdout.splitlines()) if words[0] == "export")
    assert told["DAGSTER_HOME"] == str(folder / "dagster")
    return asked | told


def dg(environment: dict[str, str], *arguments: str, cwd: Path = ROOT) -> str:
    result = subprocess.run(
        [BIN / "dg", *arguments], check=False, cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.some_of("commands of dg", 2)
def test_check_defs_at_the_root(environment: dict[str, str]) -> None:
    assert "All definitions loaded successfully" in dg(environment, "check", "defs", "--use-active-venv")


def test_check_toml_and_list_projects_at_the_root(environment: dict[str, str]) -> None:
    dg(environment, "check", "toml")
    listed = dg(environment, "list", "projects").split()
    assert sorted(listed) == [f"projects/{name}" for name in LOCATIONS]


@pytest.mark.some_of("commands of dg", 2)
@pytest.mark.parametrize(
    ("location", "some"),
    [("ingest", {"raw/orders", "raw/stores"}), ("analytics", {"stg_orders", "orders", "store_months"})],
)
def test_list_defs_in_a_project(environment: dict[str, str], location: str, some: set[str]) -> None:
    listed = json.loads(dg(environment, "list", "defs", "--json", cwd=ROOT / "projects" / location))
    keys = {asset["asset_key"] for asset in listed["assets"]}
    assert some <= keys
    assert (location == "ingest") == all(key.startswith("raw/") for key in keys)


@pytest.mark.some_of("commands of dg", 2)
def test_launch_in_a_project(environment: dict[str, str]) -> None:
    dg(environment, "launch", "--assets", "raw/customers", cwd=ROOT / "projects" / "ingest")
    file = Path(environment["HEADRACE_LAKE"], "raw", "customers", "data.parquet")
    with duckdb.connect() as connection:
        lake = connection.execute(f"select * from '{file}' order by all").fetchall()
        exported = f"from read_csv('{environment['HEADRACE_EXPORTS']}/customers.csv') order by all"
        assert lake == connection.execute(exported).fetchall() != []


@pytest.fixture
def dg_dev(environment: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """Run `dg dev` as `make dev` does, and return its address when it serves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "dg_dev.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [BIN / "dg", "dev", "--use-active-venv", "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 240
        with socket.socket() as probe:
            while probe.connect_ex(("127.0.0.1", port)):
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.some_of("commands of dg", 2)
def test_dg_dev_serves_all_locations_as_one_graph(dg_dev: str) -> None:
    answer: dict[str, Any] = requests.post(f"{dg_dev}/graphql", json={"query": EDGE}, timeout=120).json()["data"]
    entries = answer["workspaceOrError"]["locationEntries"]
    assert {(entry["name"], entry["loadStatus"], entry["locationOrLoadError"]["__typename"]) for entry in entries} == {
        (name, "LOADED", "RepositoryLocation") for name in LOCATIONS
    }
    nodes = {"/".join(node["assetKey"]["path"]): node for node in answer["assetNodes"]}
    assert {"path": ["raw", "orders"]} in nodes["stg_orders"]["dependencyKeys"]
    # One node, which is the raw table that ingest loads and no second one that a dbt source stands for.
    assert nodes["raw/orders"]["repository"]["location"]["name"] == "ingest"
    assert nodes["raw/orders"]["isPartitioned"]
    assert nodes["stg_orders"]["repository"]["location"]["name"] == "analytics"
