"""A packaged project: it never parses, and a manifest that does not fit is refused with the command that mends it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

from dagster_dbt_common import DbtConfigError, StaleManifestError, dbt_definitions, package_project, prepared_project

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import dagster as dg
    from conftest import Minimal

HERE = Path(__file__).parents[1]
COMMAND = Path(sys.executable).parent / "dagster-dbt-common"


@pytest.fixture(scope="module")
def packaged_once(
    minimal_root: Path, minimal_definitions: dg.Definitions, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a package of the minimal project, which nobody else changes."""
    assert minimal_definitions.assets
    return Path(package_project(minimal_root / "project", tmp_path_factory.mktemp("packages") / "minimal").project_dir)


@pytest.fixture
def packaged(packaged_once: Path, tmp_path: Path) -> Path:
    """Return a package where it was not made, as in an image."""
    return Path(shutil.copytree(packaged_once, tmp_path / "moved" / "minimal"))


def manifests(project: Path) -> Sequence[str]:
    return sorted(path.parent.name for path in (project / "target" / "dagster").glob("*/manifest.json"))


@pytest.mark.slow
def test_a_package_loads_and_parses_nothing(packaged: Path) -> None:
    made = manifests(packaged)
    state = packaged / "target" / "dagster"
    before = {path: path.stat().st_mtime_ns for path in state.rglob("*")}
    assert dbt_definitions(packaged).assets
    assert len(made) == 1
    assert {path: path.stat().st_mtime_ns for path in state.rglob("*")} == before, "a parse takes a lock, at least"


@pytest.mark.slow
def test_a_package_has_no_more_than_what_it_needs(packaged: Path) -> None:
    assert not (packaged / "logs").exists()
    (state,) = [path for path in (packaged / "target" / "dagster").iterdir() if path.is_dir()]
    assert {path.name for path in state.iterdir()} == {"manifest.json", "partial_parse.msgpack", "fingerprint.json"}
    assert {path.name for path in (packaged / "target").iterdir()} == {"dagster"}


@pytest.mark.slow
def test_a_seed_is_loaded_from_the_folder_where_the_package_is_now(
    minimal: Minimal, packaged: Path, packaged_once: Path
) -> None:
    """dbt writes the folder of the parse into its manifest; there is another seed there now."""
    original = packaged_once / "seeds" / "store_names.csv"
    text = original.read_text()
    original.write_text("store,name\nwrong,Wrong\n")
    try:
        moved = type(minimal)(minimal.root, dbt_definitions(packaged))
        result = moved.run("store_names")
        moved.instance.dispose()
    finally:
        original.write_text(text)
    assert result.success
    with duckdb.connect(minimal.warehouse, read_only=True) as connection:
        assert connection.sql("select store from store_names order by all").fetchall() == [("oslo",), ("paris",)]


def changed_model(project: Path) -> None:
    path = project / "models" / "totals.sql"
    path.write_text(path.read_text() + "-- changed\n")


def new_file(project: Path) -> None:
    (project / "models" / "more.sql").write_text("select 1 as one\n")


def removed_seed(project: Path) -> None:
    (project / "seeds" / "store_names.csv").unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (changed_model, "files: project/models/totals.sql"),
        (new_file, "files: project/models/more.sql"),
        (removed_seed, "files: project/seeds/store_names.csv"),
    ],
)
def test_a_package_that_was_changed_is_refused_by_file(
    packaged: Path, change: Callable[[Path], None], difference: str
) -> None:
    made = manifests(packaged)
    change(packaged)
    with pytest.raises(StaleManifestError) as raised:
        prepared_project(packaged)
    message = str(raised.value)
    assert f"the packaged manifest does not fit: {difference}: package the project again" in message
    assert f"`dagster-dbt-common package PROJECT {packaged}`" in message
    assert "\n" not in message
    assert manifests(packaged) == made


@pytest.mark.slow
def test_a_package_of_another_environment_or_target_is_refused_by_name(
    packaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StaleManifestError, match=r"does not fit: flags \['--target', 'duckdb'\], not \[\]: package"):
        prepared_project(packaged, target="duckdb")
    monkeypatch.setenv("MINIMAL_LAKE", "/elsewhere")
    with pytest.raises(StaleManifestError, match="does not fit: variables: MINIMAL_LAKE: package"):
        prepared_project(packaged)
    monkeypatch.delenv("MINIMAL_LAKE")
    with pytest.raises(StaleManifestError, match="does not fit: variables: MINIMAL_LAKE: package"):
        prepared_project(packaged)


def run_command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], env=dict(os.environ), capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_command_packages_and_replaces(minimal_root: Path, tmp_path: Path) -> None:
    destination = tmp_path / "out" / "minimal"
    destination.mkdir(parents=True)
    (destination / "left.txt").write_text("of an older package")
    done = run_command("package", minimal_root / "project", destination)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"packaged minimal in {destination}\n"
    assert not (destination / "left.txt").exists()
    assert prepared_project(destination).manifest_path.is_file()
    assert [path.name for path in destination.parent.iterdir()] == ["minimal"], "nothing is left of its work"


@pytest.mark.slow
def test_the_command_refuses_what_is_no_project_in_one_line(minimal_root: Path, tmp_path: Path) -> None:
    missing = run_command("package", tmp_path / "nowhere", tmp_path / "out")
    assert missing.returncode == 1
    assert missing.stderr == (
        f"dagster-dbt-common: {tmp_path / 'nowhere'}: there is no dbt_project.yml: give the folder of a dbt project\n"
    )
    broken = shutil.copytree(minimal_root / "project", tmp_path / "broken", ignore=shutil.ignore_patterns("target"))
    (broken / "models" / "totals.sql").write_text("select * from {{ ref('nothing_of_that_name') }}")
    failed = run_command("package", broken, tmp_path / "out")
    assert failed.returncode == 1
    assert "nothing_of_that_name" in failed.stderr
    assert failed.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert run_command("unpack").returncode == 2


@pytest.mark.slow
def test_the_wheel_has_the_macros_and_the_types(tmp_path: Path) -> None:
    uv = Path(sys.executable).parent / "uv"
    source = shutil.copytree(HERE.parent, tmp_path / "source", ignore=shutil.ignore_patterns("tests", "__pycache__"))
    done = subprocess.run(
        [uv, "build", "--quiet", "--wheel", source, "-o", tmp_path / "dist"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "dist").glob("dagster_dbt_common-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    macros = {path.name for path in (HERE.parent / "src/dagster_dbt_common/macros").glob("*.sql")}
    assert len(macros) >= 3
    assert names >= {f"dagster_dbt_common/macros/{name}" for name in macros} | {"dagster_dbt_common/py.typed"}
    assert not [name for name in names if "tests" in Path(name).parts or Path(name).name.startswith("test_")]


@pytest.mark.slow
def test_two_packages_are_equal_and_parsed_without_the_secrets_of_the_connection(
    minimal_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dbt writes times, its own identity and the folder of the parse; the secret here is not even set."""
    source = shutil.copytree(minimal_root / "project", tmp_path / "source", ignore=shutil.ignore_patterns("target"))
    profiles = source / "profiles.yml"
    profiles.write_text(profiles.read_text() + "# {{ env_var('WAREHOUSE_PASSWORD') }}\n")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    first = Path(package_project(source, tmp_path / "one" / "minimal").project_dir)
    for path in source.rglob("*"):
        os.utime(path, (0, 0))
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "hunter22")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    second = Path(package_project(source, tmp_path / "elsewhere" / "two" / "minimal").project_dir)
    texts = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (first, second)
    ]
    assert texts[0] == texts[1]
    assert not [path for path, text in texts[0].items() if b"hunter22" in text or str(tmp_path).encode() in text]
    model = source / "models" / "totals.sql"
    model.write_text(model.read_text() + "-- {{ env_var('API_TOKEN', '') }}\n")
    with pytest.raises(
        DbtConfigError, match=r"models/totals.sql: env_var\('API_TOKEN'\): a package would contain its value"
    ):
        package_project(source, tmp_path / "three")
