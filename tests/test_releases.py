"""Releases of this workspace, built from a clone of it: complete alone, without the others', the same each time."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.releases.contents import download_wheels
from headrace.releases.release import Release
from headrace.tools.uv import Uv

ROOT = Path(__file__).parents[1]
COMMAND = Path(sys.executable).parent / "headrace"
TOOLS = {"pytest", "ruff", "mypy", "sqlfluff", "uv", "dagster-dg-cli", "hatchling"}
SECRET = "never-to-be-told"  # noqa: S105 - of nothing

pytestmark = [pytest.mark.slow("builds seven releases, each in an environment of its own"), pytest.mark.timeout(300)]


def call(workspace: Path, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    environment = {**inherited, "AWS_SECRET_ACCESS_KEY": SECRET, **variables}
    command = ["sh", "-c", 'umask "$UMASK"; exec "$@"', "sh", COMMAND, "release", "build", *arguments]
    return subprocess.run(
        command, check=False, cwd=workspace, env={"UMASK": "022", **environment}, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clone of the workspace with what is uncommitted in it, committed."""
    folder = tmp_path_factory.mktemp("workspace") / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - git of the machine
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for command in (("init", "--quiet"), ("add", "--all"), (*identity, "commit", "--quiet", "--message=all")):
        subprocess.run(["git", *command], check=True, cwd=folder)  # noqa: S607
    return folder


@pytest.fixture(scope="module")
def env_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("installation") / "env"
    secret = f"AWS_SECRET_ACCESS_KEY={SECRET}\nDATABASE_PASSWORD={SECRET}\n"
    file.write_text(f"HEADRACE_LAKE=/srv/lake\nHEADRACE_WAREHOUSE=/srv/warehouse.duckdb\n{secret}")
    return file


@pytest.fixture(scope="module")
def releases(clone: Path, env_file: Path) -> Mapping[str, Release]:
    """Build each release once, into `dist/` of the workspace, where uv would take its constraints."""
    out = clone / "dist"
    found = {}
    for name in ("ingest", "analytics", "platform"):
        done = call(clone, name, "--env-file", env_file)
        assert done.returncode == 0, done.stderr
        found[name] = Release.read(clone / done.stdout.rstrip("\n"))
        found[name].verify()
    assert {path.name for path in out.iterdir()} == {release.name for release in found.values()}, "nothing is left"
    return found


def test_each_has_its_own_packages_and_no_tools(releases: Mapping[str, Release]) -> None:
    packages = {name: release.info.packages.keys() for name, release in releases.items()}
    for found in packages.values():
        assert not found & TOOLS
    assert packages["ingest"] & {"ingest", "analytics", "headrace", "dbt-core", "dagster-dbt"} == {"ingest"}
    assert packages["analytics"] & {"ingest", "analytics", "headrace", "dbt-core"} == {"analytics", "dbt-core"}
    assert packages["platform"] & {"ingest", "analytics", "headrace", "dbt-core"} == {"headrace"}
    assert packages["platform"] >= {"dagster-webserver", "dagster-postgres", "supervisor"}


def test_its_packages_are_listed_for_an_audit(releases: Mapping[str, Release]) -> None:
    """As CycloneDX has it: https://cyclonedx.org/docs/1.5/json/."""
    for release in releases.values():
        listed = json.loads((release.folder / "sbom.cdx.json").read_text())
        assert (listed["bomFormat"], listed["specVersion"]) == ("CycloneDX", "1.5")
        own = listed["metadata"]["component"]
        # What is for another platform or Python is listed too, as the lock has it: some packages in two versions.
        parts = {(part["name"], part.get("version")) for part in (own, *listed["components"])}
        assert parts >= {*release.info.packages.items()}
        assert {part["bom-ref"] for part in (own, *listed["components"])} >= {
            needed for part in listed["dependencies"] for needed in part.get("dependsOn", ())
        }


def test_it_installs_alone_into_an_empty_environment(releases: Mapping[str, Release], tmp_path: Path) -> None:
    uv = Path(sys.executable).parent / "uv"
    release = releases["ingest"]
    python = ["--python", str(tmp_path / "venv")]
    for command in (
        ["venv", "--python", sys.executable, str(tmp_path / "venv")],
        ["pip", "install", *python, "--require-hashes", "-r", str(release.requirements)],
        ["pip", "install", *python, "--no-index", *map(str, release.wheels)],
    ):
        subprocess.run([uv, "--quiet", *command], check=True, cwd=tmp_path)
    listed = subprocess.run(
        [uv, "pip", "list", "--format", "json", *python], check=True, cwd=tmp_path, capture_output=True, text=True
    )
    assert {package["name"]: package["version"] for package in json.loads(listed.stdout)} == release.info.packages


def test_wheels_are_downloaded_into_a_folder_that_is_relative(
    releases: Mapping[str, Release], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = re.split(r"\n(?=\w)", releases["ingest"].requirements.read_text())
    (click,) = (text for text in requirements if text.startswith("click=="))
    (tmp_path / "requirements.txt").write_text(click)
    monkeypatch.chdir(tmp_path)
    download_wheels(replace(releases["ingest"], folder=tmp_path), Path("dist/wheelhouse"), Uv.find())
    (wheel,) = (tmp_path / "dist/wheelhouse").iterdir()
    assert wheel.name.startswith("click-")


def test_it_tells_what_its_manifest_fits_and_no_secret_and_no_folder_of_the_build(
    releases: Mapping[str, Release], clone: Path
) -> None:
    told = releases["analytics"].info.variables
    assert told["HEADRACE_LAKE"] == "/srv/lake"
    assert told["HEADRACE_START"] is None
    assert not {name for name in told if "KEY" in name}
    assert releases["ingest"].info.variables == {}
    for release in releases.values():
        for path in release.folder.rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            for hidden in (SECRET, str(clone), "headrace-worktree-", ".building-", sys.prefix):
                assert hidden.encode() not in content, (path, hidden)


def test_its_contract_names_the_files_of_the_workspace(releases: Mapping[str, Release], clone: Path) -> None:
    for name in ("ingest", "analytics"):
        contract = releases[name].contract
        assert contract
        content = json.loads(contract.read_text())
        files = {entry["file"].partition(":")[0] for entry in (*content["produces"], *content["consumes"])}
        assert files
        assert all((clone / file).is_file() for file in files)
    assert releases["platform"].contract is None
    assert releases["platform"].info.module is None


@pytest.mark.some_of("builds and calls of releases", 1)
def test_two_builds_are_equal_wherever_they_are_made(
    releases: Mapping[str, Release], clone: Path, env_file: Path, tmp_path: Path
) -> None:
    first = releases["analytics"]
    (clone / "new.txt").write_text("uncommitted")
    arguments = ("analytics", "--out", tmp_path / "elsewhere" / "dist", "--env-file", env_file)
    done = call(clone, *arguments, UMASK="077", TZ="Asia/Tokyo", LC_ALL="C", PYTHONHASHSEED="7")
    (clone / "new.txt").unlink()
    assert done.returncode == 0, done.stderr
    assert "warning: 1 uncommitted file is not in the release" in done.stderr
    again = Release.read(Path(done.stdout.rstrip("\n")))
    again.verify()
    assert again.folder.stat().st_mode & 0o777 == 0o755
    assert again.info.files == first.info.files
    assert again.info.digest == first.info.digest
    assert again.name == first.name


@pytest.mark.some_of("builds and calls of releases", 1)
def test_an_equal_release_is_kept_and_another_one_is_refused(releases: Mapping[str, Release], clone: Path) -> None:
    release = releases["ingest"]
    before = (release.folder / "release.json").read_text()
    kept = call(clone, "ingest", "--out", release.folder.parent, "--format", "json")
    assert "already built" in kept.stderr
    assert kept.stdout == before
    (release.folder / "requirements.txt").write_text("changed")
    refused = call(clone, "ingest", "--out", release.folder.parent)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith(f"Error: {release.folder}: another build of this revision")
    replaced = call(clone, "ingest", "--out", release.folder.parent, "--force")
    assert replaced.returncode == 0, replaced.stderr
    Release.read(release.folder).verify()


@pytest.mark.some_of("builds and calls of releases", 1)
def test_a_wrong_call_is_refused_in_one_line(clone: Path, tmp_path: Path) -> None:
    for arguments, code, said in (
        (("nothing",), 2, "nothing: not a `python_module` in workspace.yaml at"),
        (("ingest", "--rev", "v99"), 2, "v99: no such revision in"),
        (("ingest", "--env-file", tmp_path / "none"), 2, "--env-file"),
        (("analytics",), 1, "'HEADRACE_WAREHOUSE': name it in --env-file FILE"),
    ):
        done = call(clone, *arguments, "--out", tmp_path / "dist")
        assert done.returncode == code, done.stderr
        assert said in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    assert not list((tmp_path / "dist").iterdir())
