"""A location of each form of `workspace.yaml` is served, and what it makes is known."""

import json
import os
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path

import pytest

from headrace.locations.describe import describe, loadable
from headrace.workspace import Workspace

# Its own name, its interpreter and its folder of imports are in the key of what it makes.
LOCATION = """
import dagster as dg

@dg.asset(name="{name}")
def made():
    pass

defs = dg.Definitions(assets=[made])
"""
WORKSPACE = """
load_from:
  - python_module: short
  - python_module: {{module_name: named, location_name: a_name, attribute: defs}}
  - python_module: {{module_name: inner, working_directory: folder, executable_path: {python}}}
  - python_package: bundle
  - python_file: serve.py
  - python_file: {{relative_path: jobs/serve.py, location_name: jobs/served}}
  - autoload_defs_module: auto
  - grpc_server: {{socket: {socket}, location_name: elsewhere}}
"""
MADE = {
    "short": "short",
    "a_name": "named",
    "inner": "inner",
    "bundle": "bundle",
    "serve.py": "serve",
    "jobs/served": "job",
    "auto": "auto",
    "elsewhere": "elsewhere",
}


def other_environment(folder: Path) -> None:
    """Make a virtual environment that sees the packages of this one and has Dagster's command."""
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(sysconfig.get_path("purelib"))
    command = folder / "bin" / "dagster"
    command.write_text(f'#!/bin/sh\nexec "{folder}/bin/python" -m dagster "$@"\n')
    command.chmod(0o755)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for variable in [name for name in os.environ if name.startswith(("HEADRACE_", "DAGSTER_"))]:
        monkeypatch.delenv(variable)
    for file, name in (
        ("short.py", "short"),
        ("named.py", "named"),
        ("folder/inner.py", "inner"),
        ("bundle/__init__.py", "bundle"),
        ("serve.py", "serve"),
        ("jobs/serve.py", "job"),
        ("auto/__init__.py", None),
        ("auto/assets.py", "auto"),
        ("elsewhere.py", "elsewhere"),
    ):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(LOCATION.format(name=name) if name else "")
    other_environment(tmp_path / "other")
    (tmp_path / "pyproject.toml").write_text(
        '[tool.dg]\ndirectory_type = "project"\n\n[tool.dg.project]\nroot_module = "auto"\n'
    )
    text = WORKSPACE.format(python="other/bin/python", socket=tmp_path / "sock")
    (tmp_path / "workspace.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = Workspace.find()
    for name, value in found.environment().items():
        monkeypatch.setenv(name, value)
    found.prepare()
    return found


# A process of its own: what it forks from is one for a process.
SERVES = """
import json
import sys

from dagster import DagsterInstance

from headrace.deployed.fork_server import fork_runs, start_loading
from headrace.local_dagster.daemon import LocalDaemon
from headrace.local_dagster.servers import running_servers
from headrace.local_dagster.storage import create_storage
from headrace.workspace import Workspace

if __name__ == "__main__":
    workspace = Workspace.find()
    workspace.enter()
    if sys.argv[1] == "forked":
        fork_runs(
            {
                name: entry.module
                for name, entry in workspace.locations.items()
                if entry.kind != "grpc_server" and not entry.executable_path
            },
            workspace.logs / "runs.log",
        )
        start_loading()
    create_storage()
    with (
        running_servers(workspace) as servers,
        DagsterInstance.get() as instance,
        LocalDaemon.over(instance, servers.workspace_file) as daemon,
    ):
        made = {node.location: node.key.to_user_string() for node in daemon.assets()}
        print(json.dumps({"errors": daemon.load_errors(), "made": made, "url": servers.url}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["forked", "started"])
def test_a_location_of_every_form_is_served(workspace: Workspace, how: str) -> None:
    socket = workspace.root / "sock"
    command = [sys.executable, "-m", "dagster", "api", "grpc", "-m", "elsewhere", "--socket", str(socket)]
    with (workspace.root / "elsewhere.log").open("wb") as log:
        elsewhere = subprocess.Popen([*command, "--location-name", "elsewhere"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not socket.exists():
            assert elsewhere.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (workspace.root / "serves.py").write_text(SERVES)
        done = subprocess.run([sys.executable, "serves.py", how], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"errors": [], "made": MADE, "url": None}
    finally:
        elsewhere.terminate()
        elsewhere.wait(30)


@pytest.mark.slow
def test_what_python_can_load_is_described_in_every_form(workspace: Workspace) -> None:
    entries = list(loadable(workspace).values())
    assert "elsewhere" not in {entry.name for entry in entries}
    texts = describe(workspace, entries, "assets")
    assert set(texts) == MADE.keys() - {"elsewhere"}
    for name, text in texts.items():
        assert f'"{MADE[name]}"' in text
