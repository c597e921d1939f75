"""What a dbt project writes with DuckDB, by its profile: a file, with one writer, or a DuckLake, with many."""

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from dagster_dbt import DbtProject
from jinja2 import Template, TemplateError
from jinja2.sandbox import SandboxedEnvironment

_JINJA = SandboxedEnvironment()

DUCKDB_FILE = "dagster_dbt_common/duckdb_file"
"""The metadata of an asset that says which file its table is in; `headrace` reads it."""


def duckdb_file(
    project: DbtProject, manifest: Mapping[str, Any], environment: Mapping[str, str] = os.environ
) -> Path | None:
    """Return the DuckDB file that a project writes, absolute.

    None is what is not to be told: another adapter, a database in memory or of MotherDuck, or a profile whose Jinja
    needs more than environment variables (https://docs.getdbt.com/reference/dbt-jinja-functions/env_var).

    Args:
        project: the prepared project.
        manifest: its manifest.
        environment: the variables that the profile reads.
    """
    output = target_output(project, manifest, environment)
    try:
        path = rendered(output.get("path", ":memory:"), environment)
    except (KeyError, TemplateError):
        return None
    if path.startswith((":memory:", "md:", "ducklake:")):
        return None
    # Two names of one file are one file.
    return Path(os.path.realpath(project.project_dir / path))


def is_ducklake(project: DbtProject, manifest: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether a project writes a DuckLake: the attached database that its target names as its own.

    Args:
        project: the prepared project.
        manifest: its manifest.
        environment: the variables that the profile reads.
    """
    output = target_output(project, manifest, environment)
    try:
        if rendered(output.get("path", ""), environment).startswith("ducklake:"):
            return True
        database = rendered(output.get("database") or "", environment)
        attached = [each for each in output.get("attach") or () if isinstance(each, dict)]
        own = [each for each in attached if database and rendered(each.get("alias"), environment) == database]
        if any(each.get("is_ducklake") for each in own):
            return True
        return any(rendered(each.get("path", ""), environment).lower().startswith("ducklake:") for each in own)
    except (KeyError, TemplateError):
        return False


def target_output(
    project: DbtProject, manifest: Mapping[str, Any], environment: Mapping[str, str]
) -> Mapping[str, Any]:
    """Return the target's output in the profile; nothing where it is another adapter's, or not to be told."""
    if manifest["metadata"].get("adapter_type") != "duckdb":
        return {}
    try:
        config = _parsed((project.project_dir / "dbt_project.yml").read_text(encoding="utf-8"))
        profiles = _parsed((Path(project.profiles_dir) / "profiles.yml").read_text(encoding="utf-8"))
        profile = profiles[project.profile or config["profile"]]
        target = project.target or rendered(profile.get("target", "default"), environment)
        return dict(profile["outputs"][target])
    except (AttributeError, KeyError, OSError, TypeError, ValueError, TemplateError, yaml.YAMLError):
        return {}


@lru_cache(maxsize=8)
def _parsed(text: str) -> Any:
    """Return what a YAML file says: each group of a project asks for its profile, and to parse one takes 15 ms."""
    return yaml.safe_load(text)


def rendered(text: object, environment: Mapping[str, str]) -> str:
    """Return a text of the profile as dbt renders it, where it reads environment variables alone.

    Raises:
        KeyError: a variable is missing.
        TemplateError: it needs more than that.
    """

    def env_var(name: str, default: str | None = None) -> str:
        return environment[name] if default is None else environment.get(name, default)

    return _template(str(text)).render(env_var=env_var)


@lru_cache(maxsize=64)
def _template(text: str) -> Template:
    return _JINJA.from_string(text)
