"""Installations for the tests of deploys: processes under supervisor, of releases that install in a second."""

import json
import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from headrace.cli.main import main
from headrace.locations.describe import LOCATION_SCRIPT
from headrace.releases.release import Release, ReleaseInfo, digest_of, file_hash

COMMAND = Path(sys.executable).parent / "headrace"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

SHOP = """
import time
import dagster as dg

@dg.asset(tags={"version": "VERSION"}, pool="one")
def sales():
    pass

@dg.op
def sleeps():
    for _ in range(SECONDS * 10):
        time.sleep(0.1)

@dg.job(executor_def=dg.in_process_executor)
def sleep():
    sleeps()

defs = dg.Definitions(assets=[sales], jobs=[sleep])
"""

_COMMANDS = """\
[console_scripts]
dagster = dagster._cli:main
headrace = headrace.cli.main:main
supervisord = supervisor.supervisord:main
dagster-daemon = dagster._daemon.cli:main
dagster-webserver = dagster_webserver.cli:main
"""

_INSTANCE = """\
telemetry: {enabled: false}
run_launcher: {module: headrace.forked_runs, class: ForkedRunLauncher}
run_monitoring: {enabled: true, poll_interval_seconds: 2, free_slots_after_run_end_seconds: 1}
run_retries: {enabled: true, max_retries: 1, retry_on_asset_or_op_failure: false}
"""


@dataclass
class Host:
    """An installation, and a folder of releases.

    Args:
        folder: the installation, as `headrace` is told of it.
        builds: the folder of releases.
        environment: of the commands.
        enter: what goes before a command to run it where the installation's processes do.
    """

    folder: Path
    builds: Path
    environment: Mapping[str, str]
    enter: Sequence[str | Path] = ()
    _built: list[str] = field(default_factory=list)

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.enter, COMMAND, "release", *arguments, "--to", str(self.folder)],
            check=False,
            env=dict(self.environment),
            capture_output=True,
            text=True,
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self.enter, COMMAND, "release", *arguments, "--to", str(self.folder)],
            env=dict(self.environment),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def status(self) -> list[dict[str, Any]]:
        said = self.call("status", "--format", "json").stdout if self.enter else self._status()
        rows: list[dict[str, Any]] = json.loads(said)["processes"]
        return rows

    def _status(self) -> str:
        """Ask in this process: tests that wait ask again and again, and the command's imports take a second."""
        hidden = dict.fromkeys(os.environ.keys() - self.environment.keys())
        asked = ["release", "status", "--to", str(self.folder), "--format", "json"]
        return CliRunner(env={**hidden, **self.environment}).invoke(main, asked).stdout

    def serving(self, location: str) -> dict[str, Any]:
        (row,) = [row for row in self.status() if row["location"] == location and row["serves"]]
        return row

    def deploy(self, release: Path) -> dict[str, Any]:
        result = self.call("deploy", Release.read(release).location, str(release), "--format", "json")
        assert result.returncode == 0, result.stderr
        done: dict[str, Any] = json.loads(result.stdout)
        return done

    def build(self, location: str, code: str | None, *, promises: str | None = None) -> Path:
        """Make a release whose environment sees the packages of this one; the platform has no code.

        Args:
            location: its name.
            code: its module.
            promises: a module that has the same contract, which a test may have asked for before.
        """
        number = len(self._built) + 1
        revision = f"{number:040x}"[::-1]
        name = f"{location}-20260101T{number:06d}Z-{revision[:12]}"
        self._built.append(name)
        folder = self.builds / name
        (folder / "wheels").mkdir(parents=True)
        (folder / "requirements.txt").write_text("")
        info = f"{location}-1.dist-info"
        with zipfile.ZipFile(folder / f"wheels/{location}-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{location}.py", code or "")
            wheel.writestr(f"{location}.pth", f"{sysconfig.get_path('purelib')}\n{_sources()}\n")
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {location}\nVersion: 1\n")
            wheel.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            wheel.writestr(f"{info}/entry_points.txt", _COMMANDS)
            wheel.writestr(f"{info}/RECORD", "")
        if code is not None:
            (folder / "contract.json").write_bytes(_contract(location, promises or code))
        files = {p.relative_to(folder).as_posix(): file_hash(p) for p in sorted(folder.rglob("*")) if p.is_file()}
        said = ReleaseInfo(
            format=1,
            name=name,
            location=location,
            kind="platform" if code is None else "location",
            member=location,
            module=None if code is None else location,
            revision=revision,
            version="1",
            python=PYTHON,
            packages={},
            variables={},
            files=files,
            digest="0" * 64,
            built_at="2026-01-01T00:00:00+00:00",
        )
        said = said.model_copy(update={"digest": digest_of(said)})
        (folder / "release.json").write_text(said.model_dump_json())
        return folder

    def build_shop(self, version: str, seconds: int = 1, more: str = "") -> Path:
        """Make a release of `shop`, whose job `sleep` takes the seconds."""
        code = SHOP.replace("VERSION", version).replace("SECONDS", str(seconds))
        return self.build("shop", code + more, promises=SHOP.replace("SECONDS", "1") + more)

    def wait_until(self, true: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, f"not within {seconds} s"
            time.sleep(0.2)


@cache
def _contract(location: str, code: str) -> bytes:
    with tempfile.TemporaryDirectory() as made:
        out = Path(made, "contract.json")
        (Path(made) / f"{location}.py").write_text(code)
        subprocess.run(
            [
                *(sys.executable, str(LOCATION_SCRIPT), "--location", location, "--module-name", location),
                *("--working-directory", made, "--root", made, "--out", str(out)),
            ],
            check=False,
            capture_output=True,
        )
        if out.is_file():
            return out.read_bytes()
    # What does not load has a contract all the same.
    return json.dumps({"version": 1, "location": location, "produces": [], "consumes": []}).encode()


def _sources() -> str:
    return str(Path(__file__).parents[2] / "src")


def own_environment() -> dict[str, str]:
    """Return the environment of this process without what would bear on an installation."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "DAGSTER_", "PYTHON"))
    }
    return inherited | {"UV_COMPILE_BYTECODE": "0"}


def configure(folder: Path) -> int:
    """Give an installation a free port, which is returned, and an instance without Postgres."""
    (folder / "dagster/dagster.yaml").write_text(_INSTANCE)
    settings, port = folder / "installation.toml", _free_port()
    settings.write_text(settings.read_text().replace("port = 3000", f"port = {port}"))
    return port


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
