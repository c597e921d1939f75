"""What the doctor says of Python, git, uv, and of the packages of each interpreter."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

MakeEnvironment = Callable[..., Path]


def of(findings: list[dict[str, Any]], python: Path) -> dict[str, Any]:
    (found,) = [each for each in findings if each["says"].startswith(str(python))]
    return found


def test_what_fits_is_fine(clone: Any, of_its_own: MakeEnvironment) -> None:
    python = of_its_own({"lib": ("1.0", "other[fast]>=1; extra == 'never'", "windows; sys_platform == 'win32'")})
    findings = clone.findings()
    for check in ("packages", "pins", "lock"):
        assert of([each for each in findings if each["check"] == check], python)["state"] == "ok"
    versions = [each for each in findings if each["check"] == "python"]
    assert [each["state"] for each in versions] == ["ok", "ok"]


def test_a_family_that_does_not_fit(clone: Any, of_its_own: MakeEnvironment) -> None:
    python = of_its_own({"dagster": ("1.13.27",), "dagster-webserver": ("1.13.26", "dagster==1.13.26", "uvicorn")})
    found = of(clone.found("packages"), python)
    assert found["state"] == "wrong"
    assert "dagster-webserver needs dagster==1.13.26, and 1.13.27 is installed" in found["says"]
    assert "dagster-webserver needs uvicorn, which is not installed" in found["says"]
    assert found["mend"] == "make install"


def test_a_version_outside_of_a_pin_and_of_the_lock(clone: Any, of_its_own: MakeEnvironment) -> None:
    python = of_its_own({"lib": ("2.0",)})
    pins, lock = of(clone.found("pins"), python), of(clone.found("lock"), python)
    assert (pins["state"], lock["state"]) == ("wrong", "wrong")
    assert "lib 2.0, and pyproject.toml takes <2" in pins["says"]
    assert "lib 2.0, and uv.lock has 1.0" in lock["says"]


def test_a_package_beside_the_lock_is_a_warning(clone: Any, of_its_own: MakeEnvironment) -> None:
    python = of_its_own({"lib": ("1.0",), "by-hand": ("3",)})
    found = of(clone.found("lock"), python)
    assert (found["state"], "by-hand" in found["says"]) == ("warning", True)


def test_two_versions_of_duckdb_and_an_extension_of_another(clone: Any, of_its_own: MakeEnvironment) -> None:
    assert [each["state"] for each in clone.found("duckdb")] == ["ok"]
    of_its_own({"duckdb": ("0.1",), "duckdb-extension-httpfs": ("0.2",)})
    (found,) = clone.found("duckdb")
    assert found["state"] == "wrong"
    assert found["says"].startswith("3 versions of DuckDB: 0.1: duckdb of")
    assert "0.2: duckdb-extension-httpfs" in found["says"]


def test_versions_of_python_and_uv_that_the_workspace_does_not_take(clone: Any) -> None:
    text = (clone.root / "pyproject.toml").read_text()
    text = text.replace(">=3.11", ">=3.99").replace("[tool.uv]\n", '[tool.uv]\nrequired-version = ">=99"\n')
    clone.write("pyproject.toml", text)
    for check, wanted in (("python", ">=3.99"), ("uv", ">=99")):
        (found,) = clone.found(check)
        assert (found["state"], found["says"].endswith(f"and the workspace takes {wanted}")) == ("wrong", True)


def test_neither_git_nor_uv(clone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = clone.root / "empty"
    empty.mkdir()
    python = empty / "python"
    python.symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(empty))
    monkeypatch.setattr(sys, "executable", str(python))  # uv is looked for beside it
    assert [each["state"] for check in ("git", "uv") for each in clone.found(check)] == ["wrong", "wrong"]


def test_an_interpreter_that_is_not_there(clone: Any, of_its_own: MakeEnvironment) -> None:
    of_its_own({}).unlink()
    assert [each["state"] for each in clone.found("python")] == ["wrong", "ok"]


def test_a_location_whose_python_has_no_dbt(clone: Any, of_its_own: MakeEnvironment) -> None:
    assert [each["state"] for each in clone.found("manifest")] == ["unknown"]
    clone.write("projects/shop/dbt/dbt_project.yml", "name: shop\n")
    of_its_own({})
    (found,) = clone.found("manifest")
    assert (found["state"], "has no dbt" in found["says"]) == ("wrong", True)
