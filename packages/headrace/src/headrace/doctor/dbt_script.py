"""Parses a dbt project and reads its profile; run by the interpreter of the project's code location.

Its arguments are the folder of the project, a folder for what dbt writes, and a file for the result. Nothing is
connected to: the profile's database is not opened, an in-memory DuckDB tells the time zone of a session.

    {"dbt": true,                     false where the interpreter has no dbt; then nothing else is told
     "failed": null,                  or dbt's message
     "nodes": 44, "in_window": true,  of the manifest
     "partitioned": 4,                how many models have partitions that only this workspace's macros can build
     "packaged": null,                or why the manifest of a packaged project does not fit its files
     "name": "shop", "type": "duckdb", "path": "/data/warehouse.duckdb",
     "time_zone": "UTC",              of a DuckDB session, or null
     "time_zone_set": true,           by the profile; else it is the machine's
     "profile_failed": null}          or why the profile cannot be read

`dbt.config.runtime` and `dbt.flags` are not among dbt's documented interfaces, and dbt has none that renders a profile
without connecting: a test fails if they move.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

# The folder of a script stands first, and its modules would hide others.
if __name__ == "__main__" and sys.path[0] == str(Path(__file__).parent):
    del sys.path[0]

_MACROS = "DAGSTER_DBT_COMMON_MACROS"
_ZONE = "timezone"


def examine(project: Path, target: Path) -> dict[str, Any]:
    """Return what the module's docstring describes."""
    # As `long_lived_imports` of headrace does, which may not be here.
    gc.disable()
    try:
        from dbt.cli.main import dbtRunner
    except ModuleNotFoundError:
        return {"dbt": False}
    gc.freeze()
    gc.enable()
    # The location sets it too, so that the macros of the installed package are found.
    package = importlib.util.find_spec("dagster_dbt_common")
    if package and package.submodule_search_locations:
        os.environ.setdefault(_MACROS, str(Path(package.submodule_search_locations[0], "macros")))
    os.chdir(project)
    found: dict[str, Any] = {"dbt": True, "failed": None, "packaged": None, "profile_failed": None}
    folders = ["--project-dir", str(project), "--target-path", str(target), "--log-path", str(target)]
    result = dbtRunner().invoke(["--quiet", "--no-use-colors", "--no-partial-parse", "parse", *folders])
    if not result.success:
        return {**found, "failed": " ".join(str(result.exception or "it did not say why").split())}
    manifest = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
    found["name"] = manifest["metadata"]["project_name"]
    found["nodes"] = len(manifest["nodes"])
    found["in_window"] = any(macro["name"] == "in_window" for macro in manifest["macros"].values())
    found["partitioned"] = sum(_is_partitioned(node["config"]) for node in manifest["nodes"].values())
    if (project / "target" / "dagster" / "packaged.json").is_file():
        found["packaged"] = _packaged(project)
    try:
        found.update(_profile(project))
    except Exception as error:
        # dbt and its adapters raise what they like; the doctor says it.
        found["profile_failed"] = " ".join(str(error).split()) or type(error).__name__
    return found


def _is_partitioned(config: dict[str, Any]) -> bool:
    dagster = (config.get("meta") or {}).get("dagster") or {}
    return bool(dagster.get("partitions")) or config.get("incremental_strategy") == "delete_window+insert"


def _packaged(project: Path) -> str | None:
    """Return why the manifest of a packaged project does not fit; a packaged project is never parsed by this."""
    package = importlib.import_module("dagster_dbt_common")
    try:
        package.prepared_project(project)
    except package.StaleManifestError as error:
        return " ".join(str(error).split())
    return None


def _profile(project: Path) -> dict[str, Any]:
    from dbt.config.runtime import load_profile
    from dbt.flags import set_from_args

    said = os.environ.get("DBT_PROFILES_DIR")
    profiles = said or (str(project) if (project / "profiles.yml").is_file() else str(Path.home() / ".dbt"))
    set_from_args(Namespace(PROFILES_DIR=profiles, PROJECT_DIR=str(project)), {})
    credentials: Any = load_profile(str(project), {}).credentials
    found: dict[str, Any] = {"type": credentials.type, "path": _path(credentials), "time_zone": None}
    if credentials.type != "duckdb":
        return found
    duckdb = importlib.import_module("duckdb")
    said_of_sessions = {**(credentials.config_options or {}), **(credentials.settings or {})}
    zones = [str(value) for name, value in said_of_sessions.items() if name.lower() == _ZONE]
    with duckdb.connect(":memory:") as connection:
        for zone in zones:
            connection.execute(f"set timezone = '{zone}'")
        row = connection.execute("select current_setting('timezone')").fetchone()
    return {**found, "time_zone": row[0] if row else None, "time_zone_set": bool(zones)}


def _path(credentials: Any) -> str | None:
    """Return where the target's tables are: the attached database that it names as its own, or the path."""
    own = credentials.to_dict().get("database") if credentials.type == "duckdb" else None
    attached = [each for each in getattr(credentials, "attach", None) or () if each.alias == own]
    return f"attached as {own}" if attached else getattr(credentials, "path", None)


if __name__ == "__main__":
    Path(sys.argv[3]).write_text(json.dumps(examine(Path(sys.argv[1]), Path(sys.argv[2]))), encoding="utf-8")
