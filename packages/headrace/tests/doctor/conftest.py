"""A workspace on disk, and environments whose packages are what a test says."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from headrace.cli.main import main

VARIABLES = ("STATE", "START", "EXPORTS", "LAKE", "WAREHOUSE", "DBT_PROJECT", "INSTALLATION")


@dataclass(frozen=True)
class Clone:
    """A workspace of one location, `shop`, as a fresh clone is: without state."""

    root: Path

    def write(self, name: str, text: str) -> Path:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def call(self, *arguments: str) -> Result:
        # Port 9 (discard) is nobody's; 3000 may be anybody's.
        return CliRunner().invoke(main, ["doctor", "--port", "9", *arguments])

    def findings(self, *arguments: str) -> list[dict[str, Any]]:
        result = self.call("--format", "json", *arguments)
        assert isinstance(result.exception, SystemExit | None), result.exception
        found: list[dict[str, Any]] = json.loads(result.stdout)
        assert result.exit_code == int(any(each["state"] == "wrong" for each in found))
        return found

    def found(self, check: str, *arguments: str) -> list[dict[str, Any]]:
        findings = self.findings(*arguments)
        found = [each for each in findings if each["check"] == check]
        assert found, f"nothing is said of {check}: {[each for each in findings if each['state'] != 'ok']}"
        return found

    def listing(self) -> dict[str, int]:
        return {str(path.relative_to(self.root)): path.stat().st_mtime_ns for path in self.root.rglob("*")}


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    for variable in (*(f"HEADRACE_{name}" for name in VARIABLES), "DAGSTER_HOME"):
        monkeypatch.delenv(variable, raising=False)
    clone = Clone(tmp_path.resolve() / "workspace")
    clone.write(
        "workspace.yaml", "load_from:\n  - python_module: {module_name: shop.definitions, location_name: shop}\n"
    )
    clone.write(
        "pyproject.toml",
        '[project]\nname = "root"\nversion = "0"\nrequires-python = ">=3.11"\n'
        '[tool.uv]\nconstraint-dependencies = ["lib<2"]\n[tool.uv.workspace]\nmembers = ["projects/*"]\n',
    )
    clone.write("uv.lock", 'version = 1\n[[package]]\nname = "lib"\nversion = "1.0"\n')
    clone.write("projects/shop/pyproject.toml", '[tool.dg.project]\nroot_module = "shop"\n')
    monkeypatch.chdir(clone.root)
    return clone


@pytest.fixture
def of_its_own(clone: Clone) -> Callable[..., Path]:
    """Return what gives the location an interpreter of its own, with packages: `name=(version, *requirements)`."""

    def make(packages: Mapping[str, tuple[str, ...]]) -> Path:
        folder = clone.root.parent / "environment"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        (site,) = folder.glob("lib/python*/site-packages")
        for name, (version, *needs) in packages.items():
            info = site / f"{name.replace('-', '_')}-{version}.dist-info"
            info.mkdir()
            required = "".join(f"Requires-Dist: {need}\n" for need in needs)
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{required}")
        python = folder / "bin" / "python"
        clone.write(
            "workspace.yaml",
            "load_from:\n  - python_module: {module_name: shop.definitions, location_name: shop, "
            f"executable_path: {python}}}\n",
        )
        return python

    return make


@contextmanager
def process_that(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run a Python that says `ready` when it has done what it is to do, and waits; it is killed at the end."""
    command = [sys.executable, "-c", f"{code}\nprint('ready', flush=True)\ninput()", *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def running() -> Callable[..., Any]:
    return process_that
