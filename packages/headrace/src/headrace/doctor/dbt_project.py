"""The dbt projects: each parses, finds the macros, and has a profile with an absolute path and sessions in UTC."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from headrace.doctor.examined import PROJECT, Examined, Location
from headrace.doctor.finding import Finding, one_line
from headrace.tools.python_traces import error_of

_SCRIPT = Path(__file__).with_name("dbt_script.py")
_SECONDS = 600
_MACRO_PATHS = (
    """macro-paths: ["macros", "{{ env_var('DAGSTER_DBT_COMMON_MACROS') }}"] in dbt_project.yml; """
    "README.md, `Your own dbt project`, says what the variable is"
)
_UTC = {"utc", "etc/utc", "uct", "etc/uct", "universal", "etc/universal", "zulu", "etc/zulu"}
_SET_UTC = "`settings: {TimeZone: UTC}` in the target of profiles.yml"


def check_dbt_projects(examined: Examined) -> Iterator[tuple[Finding, Mapping[str, Any]]]:
    """Look at each dbt project of a code location.

    Yields:
        a finding, with what the project's interpreter said of it (see `dbt_script.py`); empty where it said nothing.
    """
    projects = examined.dbt_projects()
    if not projects:
        yield Finding("manifest", "unknown", "no code location has or claims a dbt project"), {}
    for project, location in projects.items():
        if not (project / PROJECT).is_file():
            says = f"{project}: there is no {PROJECT}"
            yield Finding("manifest", "wrong", says, "correct HEADRACE_DBT_PROJECT"), {}
            continue
        said, failed = _ask(examined, project, location)
        if failed:
            yield failed, {}
        else:
            for finding in _findings(project, location, said):
                yield finding, said


def _ask(examined: Examined, project: Path, location: Location) -> tuple[Mapping[str, Any], Finding | None]:
    with TemporaryDirectory(prefix="headrace-doctor-") as folder:
        out = Path(folder, "found.json")
        beside = f"{Path(location.interpreter).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        try:
            done = subprocess.run(  # noqa: S603 - the interpreter that the workspace names
                [location.interpreter, str(_SCRIPT), str(project), str(Path(folder, "target")), str(out)],
                check=False,
                cwd=examined.root,
                env={**examined.environment(), "PATH": beside, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return {}, Finding("manifest", "unknown", f"{project}: {location.interpreter}: {one_line(error)}")
        if not out.is_file():
            return {}, Finding("manifest", "unknown", f"{project}: dbt died: {one_line(error_of(done.stdout))}")
        said: Mapping[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return said, None


def _findings(project: Path, location: Location, said: Mapping[str, Any]) -> Iterator[Finding]:
    if not said["dbt"]:
        says = f"{project}: {location.interpreter}, the Python of {location.name}, has no dbt"
        yield Finding("manifest", "wrong", says, f"add its dbt adapter to the pyproject.toml of {location.name}")
        return
    if said["failed"]:
        yield Finding(
            "manifest", "wrong", f"{project}: dbt cannot parse it: {said['failed']}", "correct what dbt names"
        )
        return
    if said["packaged"]:
        yield Finding("manifest", "wrong", said["packaged"], f"package it again, or remove {project}/target/dagster")
    else:
        yield Finding("manifest", "ok", f"{project}: dbt parses the present files: {said['nodes']} nodes")
    yield _macros(project, said)
    if said["profile_failed"]:
        yield Finding("profile", "wrong", f"{project}: its profile: {said['profile_failed']}", "correct profiles.yml")
    elif said["type"] != "duckdb":
        says = f"{project}: the path and time zone of {said['type']} are not looked at, only those of DuckDB"
        yield Finding("profile", "unknown", says)
    else:
        yield _path(project, str(said["path"]))
        yield _time_zone(project, str(said["time_zone"]), is_set=said["time_zone_set"])


def _macros(project: Path, said: Mapping[str, Any]) -> Finding:
    if said["in_window"]:
        return Finding("macros", "ok", f"{project}: in_window and the other macros of dagster-dbt-common are found")
    if said["partitioned"]:
        says = f"{project}: in_window is not found, and {said['partitioned']} nodes have partitions"
        return Finding("macros", "wrong", says, _MACRO_PATHS)
    says = f"{project}: in_window is not found; no node has partitions yet"
    return Finding("macros", "warning", says, _MACRO_PATHS)


def _path(project: Path, path: str) -> Finding:
    mend = """`path: "{{ env_var('HEADRACE_WAREHOUSE') }}"` in the target of profiles.yml"""
    if path == ":memory:":
        says = f"{project}: the profile's database is in memory, and is gone after each run"
        return Finding("profile", "warning", says, mend)
    if path.startswith("attached as "):
        return Finding("profile", "ok", f"{project}: the profile's database is {path}")
    if ":" not in path and not Path(path).is_absolute():
        says = f"{project}: the profile's DuckDB path {path} is relative: dbt may run in another folder"
        return Finding("profile", "wrong", says, mend)
    return Finding("profile", "ok", f"{project}: the profile's database is {path}")


def _time_zone(project: Path, zone: str, *, is_set: bool) -> Finding:
    if zone.lower() not in _UTC:
        says = f"{project}: sessions of the warehouse are in {zone}: times with a zone fall into other partitions"
        return Finding("time-zone", "wrong", says, _SET_UTC)
    if not is_set:
        says = f"{project}: sessions of the warehouse are in UTC because this machine is, not by the profile"
        return Finding("time-zone", "warning", says, _SET_UTC)
    return Finding("time-zone", "ok", f"{project}: sessions of the warehouse are in {zone}")
