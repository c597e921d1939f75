"""Names that are written into users' `dagster.yaml` files and called in installed releases of older versions."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dagster import DagsterInstance

from headrace.deployed.forked_launcher import ForkedRunLauncher
from headrace.deployed.launcher import LocalRunLauncher
from headrace.local_dagster.event_log import BatchingSqliteEventLogStorage

# As `headrace init` and `headrace release init` have written it since there are such files.
OLD = """\
telemetry: {{enabled: false}}
run_launcher: {{module: {module}, class: {name}}}
"""


@pytest.mark.parametrize(
    ("module", "name", "launcher"),
    [
        ("headrace.forked_runs", "ForkedRunLauncher", ForkedRunLauncher),
        ("headrace.deployed.launcher", "LocalRunLauncher", LocalRunLauncher),
    ],
)
def test_an_instance_of_an_older_version_loads(tmp_path: Path, module: str, name: str, launcher: type) -> None:
    (tmp_path / "dagster.yaml").write_text(OLD.format(module=module, name=name))
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        assert type(instance.run_launcher) is launcher


def test_an_instance_with_the_event_log_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "telemetry: {enabled: false}\nevent_log_storage: {module: headrace.event_log, class: %s}\n"
    (tmp_path / "dagster.yaml").write_text(text % BatchingSqliteEventLogStorage.__name__)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with DagsterInstance.get() as instance:
        assert type(instance.event_log_storage) is BatchingSqliteEventLogStorage
    assert (tmp_path / "history" / "runs" / "index.db").is_file()


@pytest.mark.slow
def test_the_storage_is_made_by_the_command_that_a_deploy_calls_in_releases_of_every_version(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    done = subprocess.run(
        [sys.executable, "-m", "headrace.storage"],
        check=False,
        env={**os.environ, "DAGSTER_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert (tmp_path / "history" / "runs.db").is_file()
