"""What holds of the workspace as a whole: who depends on whom, and what loading a code location does and says."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LOCATIONS = sorted(path.name for path in (ROOT / "projects").iterdir() if (path / "pyproject.toml").is_file())

# Prints what a location's assets are; a first argument of `watch` says on standard error what loading it touches.
LOAD = """
import importlib, json, os, sys

def watch(event, args):
    if event.startswith(("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.posix_spawn", "os.exec")):
        print("touched:", event, *args[:2], file=sys.stderr)
    if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        if "__pycache__" not in str(args[0]) and str(args[0]) != os.devnull:
            print("touched:", event, *args[:2], file=sys.stderr)

if sys.argv[1] == "watch":
    sys.addaudithook(watch)
assets = {}
for name in sys.argv[2:]:
    defs = importlib.import_module(f"{name}.definitions").defs()
    for spec in defs.resolve_all_asset_specs():
        start = getattr(spec.partitions_def, "start", None)
        assets[spec.key.to_user_string()] = {
            "location": name,
            "start": start and start.isoformat(),
            "parents": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
        }
print(json.dumps(assets))
"""


def read_lock() -> dict[str, Any]:
    return tomllib.loads((ROOT / "uv.lock").read_text())


def closure(lock: Mapping[str, Any], name: str, extras: Collection[str] = ()) -> set[str]:
    """Return every distribution that installing `name[extras]` may pull in, on whatever platform."""
    packages: dict[str, list[dict[str, Any]]] = {}
    for package in lock["package"]:
        packages.setdefault(package["name"], []).append(package)
    seen: set[tuple[str, str]] = set()
    waiting = [(name, ""), *((name, extra) for extra in extras)]
    while waiting:
        item = waiting.pop()
        if item in seen:
            continue
        seen.add(item)
        for package in packages[item[0]]:
            needed = (
                package.get("optional-dependencies", {}).get(item[1], [])
                if item[1]
                else package.get("dependencies", [])
            )
            for dependency in needed:
                waiting.append((dependency["name"], ""))
                waiting.extend((dependency["name"], extra) for extra in dependency.get("extra", ()))
    return {distribution for distribution, _ in seen}


def of_dbt(names: Collection[str]) -> list[str]:
    return sorted(name for name in names if "dbt" in name)


def test_ingest_does_not_pull_in_dbt_and_analytics_does() -> None:
    lock = read_lock()
    extras = next(package for package in lock["package"] if package["name"] == "ingest")["optional-dependencies"]
    everything = closure(lock, "ingest", extras)
    assert {"dagster", "duckdb", "fsspec", "obstore", "sqlalchemy"} <= everything
    assert of_dbt(everything) == []
    assert {"dagster-dbt", "dagster-dbt-common", "dbt-core", "dbt-duckdb"} <= closure(lock, "analytics")
    # dbt is a command there, whose project is another environment's.
    assert of_dbt(closure(lock, "headrace")) == []


@pytest.mark.parametrize("below", ["ingest", "dagster", "sqlalchemy"])
def test_dbt_anywhere_below_ingest_is_found(below: str) -> None:
    lock = copy.deepcopy(read_lock())
    package = next(package for package in lock["package"] if package["name"] == below)
    package.setdefault("dependencies", []).append({"name": "dagster-dbt"})
    assert of_dbt(closure(lock, "ingest")) == ["dagster-dbt"]


def test_dbt_behind_an_extra_is_found_where_the_extra_is_asked_for() -> None:
    lock = copy.deepcopy(read_lock())
    packages = {package["name"]: package for package in lock["package"]}
    packages["fsspec"]["optional-dependencies"] = {"marts": [{"name": "dagster-dbt"}]}
    assert of_dbt(closure(lock, "ingest", ["s3"])) == []
    packages["obstore"].setdefault("dependencies", []).append({"name": "fsspec", "extra": ["marts"]})
    assert of_dbt(closure(lock, "ingest")) == []
    assert "dagster-dbt" in of_dbt(closure(lock, "ingest", ["s3"]))


def test_both_lists_of_locations_name_the_projects() -> None:
    root = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert sorted(project["path"] for project in root["tool"]["dg"]["workspace"]["projects"]) == [
        f"projects/{name}" for name in LOCATIONS
    ]
    entries = [entry["python_module"] for entry in yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]]
    assert sorted((entry["location_name"], entry["module_name"]) for entry in entries) == [
        (name, f"{name}.definitions") for name in LOCATIONS
    ]
    deployed = re.findall(r"grpc_server: .*location_name: (\w+)", (ROOT / "workspace.yaml").read_text())
    assert sorted(deployed) == LOCATIONS
    for name in LOCATIONS:
        project = tomllib.loads((ROOT / "projects" / name / "pyproject.toml").read_text())
        assert project["tool"]["dg"]["project"]["root_module"] == name


@pytest.mark.parametrize("name", LOCATIONS)
def test_an_entry_point_is_short_and_loads_the_defs_folder(name: str) -> None:
    text = (ROOT / "projects" / name / "src" / name / "definitions.py").read_text()
    assert len(text.splitlines()) < 40
    assert "load_from_defs_folder" in text


def load(
    folder: Path, *locations: str, start: str = "2024-01-01", watch: bool = False
) -> tuple[dict[str, dict[str, Any]], str]:
    """Load locations in a process whose state and dbt project are in the folder; return assets and standard error."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "DAGSTER_"))}
    result = subprocess.run(
        [sys.executable, "-c", LOAD, "watch" if watch else "-", *locations],
        check=False,
        cwd=folder,
        env={
            **inherited,
            "HEADRACE_START": start,
            "HEADRACE_EXPORTS": str(folder / "exports"),
            "HEADRACE_LAKE": str(folder / "lake"),
            "HEADRACE_WAREHOUSE": str(folder / "warehouse.duckdb"),
            "HEADRACE_DBT_PROJECT": str(folder / "dbt"),
        },
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout), result.stderr


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_file()
    }


def copy_of_dbt(folder: Path) -> Path:
    shutil.copytree(ROOT / "dbt", folder / "dbt", ignore=shutil.ignore_patterns("target", "logs"))
    return folder


@pytest.mark.slow("loads both locations, each in a process of its own")
def test_loading_makes_the_manifest_and_then_nothing(tmp_path: Path) -> None:
    folder = copy_of_dbt(tmp_path)
    before = listing(folder)
    load(folder, *LOCATIONS)
    prepared = listing(folder)
    assert {name: prepared[name] for name in before} == before
    made = [Path(name) for name in prepared.keys() - before.keys()]
    assert "manifest.json" in {path.name for path in made}
    assert {path.parts[:3] for path in made} == {("dbt", "target", "dagster")}

    touched = [line for line in load(folder, *LOCATIONS, watch=True)[1].splitlines() if line.startswith("touched:")]
    # Python's own `platform` asks `file` about the interpreter.
    assert [line for line in touched if not line.startswith("touched: subprocess.Popen file ")] == []
    assert listing(folder) == prepared


@dataclass(frozen=True)
class Loaded:
    """What both locations say for a first day, and dbt's manifest of it."""

    start: str
    assets: Mapping[str, Mapping[str, Any]]
    manifest: Mapping[str, Any]


@pytest.fixture(scope="module", params=["2018-09-01", "2024-02-15"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = copy_of_dbt(tmp_path_factory.mktemp("loaded"))
    assets, _ = load(folder, *LOCATIONS, start=request.param)
    (manifest,) = (folder / "dbt" / "target" / "dagster").glob("*/manifest.json")
    return Loaded(request.param, assets, json.loads(manifest.read_text()))


@pytest.mark.slow
def test_the_first_day_is_the_same_on_both_sides_and_in_dbt(loaded: Loaded) -> None:
    days = {"raw/orders", "raw/items", "raw/tweets", "order_items", "orders", "customer_days", "store_hours"}
    assert {name: asset["start"][:19] for name, asset in loaded.assets.items() if asset["start"]} == {
        **dict.fromkeys(days, f"{loaded.start}T00:00:00"),
        "store_months": f"{loaded.start[:7]}-01T00:00:00",
    }
    configs = [node["config"] for node in loaded.manifest["nodes"].values()]
    incremental = [config for config in configs if config.get("materialized") == "incremental"]
    starts = [config.get("begin") or config["meta"]["dagster"]["partitions"]["start"] for config in incremental]
    assert [str(value)[:10] for value in starts] == [loaded.start] * 5


@pytest.mark.slow
def test_the_raw_tables_of_ingest_are_the_sources_of_the_models(loaded: Loaded) -> None:
    raw = {name for name, asset in loaded.assets.items() if asset["location"] == "ingest"}
    read = {
        parent
        for asset in loaded.assets.values()
        for parent in asset["parents"]
        if asset["location"] == "analytics" and parent.startswith("raw/")
    }
    assert loaded.assets["stg_orders"]["parents"] == ["raw/orders"]
    tables = ("customers", "products", "stores", "supplies", "orders", "items", "tweets")
    assert raw == read == {f"raw/{name}" for name in tables}
