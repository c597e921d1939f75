"""The dbt profile of a CI build: the project's own, with a file of its own to write and everything else read-only."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from headrace.cli.user_errors import UserError

PROFILES = "profiles.yml"


def ci_profile(
    project: Path, target: str | None, scratch: Path, production: Path, database: str, *, environment: Mapping[str, str]
) -> str:
    """Return the text of a `profiles.yml` whose one target writes `scratch`.

    Its text is the project's, so that settings, secrets and extensions stay, and Jinja in it is dbt's to render. All
    that it attaches is read-only: what a model's config names as its `database` cannot be written.

    Args:
        project: the folder of `dbt_project.yml`.
        target: the profile's target; its default where None.
        scratch: the DuckDB file that is written.
        production: the DuckDB file that is read.
        database: the name under which production is read.
        environment: the variables that dbt gets, by which the profile may choose its default target.

    Raises:
        UserError: there is no such profile or target, or its database is not a DuckDB file.
    """
    file, name, profile = _profile(project)
    chosen = target or _rendered(str(profile.get("target", "default")), file, environment)
    output = (profile.get("outputs") or {}).get(chosen)
    if output is None:
        raise UserError(f"{file}: profile {name} has no target {chosen}: choose one with --target")
    if output.get("type") != "duckdb":
        raise UserError(
            f"{file}: target {chosen} of {name} is of type {output.get('type')}, and `headrace dbt ci` builds in a "
            "DuckDB file: choose another one with --target, or run `dbt build --select state:modified+ --defer`"
        )
    attached = [{**entry, "read_only": True} for entry in output.get("attach") or ()]
    if output.get("database") in {entry.get("alias") for entry in attached} - {None}:
        raise UserError(
            f"{file}: target {chosen} of {name} writes the attached database {output['database']}, and "
            "`headrace dbt ci` builds in a DuckDB file: choose another one with --target"
        )
    attached.append({"path": str(production), "alias": f'"{database}"', "read_only": True})
    kept = {key: value for key, value in output.items() if key != "database"}
    changed = {**kept, "path": str(scratch), "attach": attached}
    return yaml.safe_dump({name: {"target": chosen, "outputs": {chosen: changed}}}, allow_unicode=True)


def production_file(project: Path, target: str | None, *, environment: Mapping[str, str]) -> Path | None:
    """Return the DuckDB file that a project's own profile writes; None where that is not to be told by variables.

    Args:
        project: the folder of `dbt_project.yml`.
        target: the profile's target; its default where None.
        environment: the variables of production.
    """
    try:
        file, _, profile = _profile(project)
        chosen = target or _rendered(str(profile.get("target", "default")), file, environment)
        path = _rendered(str(profile["outputs"][chosen]["path"]), file, environment)
    except (KeyError, TypeError, UserError):
        return None
    return project / path


def _rendered(target: str, file: Path, environment: Mapping[str, str]) -> str:
    """Return the name of the default target, whose Jinja dbt renders with environment variables alone.

    Source: https://docs.getdbt.com/reference/dbt-jinja-functions/env_var
    """

    def env_var(name: str, default: str | None = None) -> str:
        value = environment.get(name, default)
        if value is None:
            raise UserError(
                f"{file}: its target reads {name}, which is not set: set it, or choose a target with --target"
            )
        return value

    try:
        return SandboxedEnvironment(undefined=StrictUndefined).from_string(target).render(env_var=env_var)
    except TemplateError as error:
        raise UserError(f"{file}: its target {target}: {error}: choose one with --target") from None


def _profile(project: Path) -> tuple[Path, str, Mapping[str, Any]]:
    """Return the file, the name and the content of a project's profile, found where dbt looks for it."""
    config = project / "dbt_project.yml"
    name = str((yaml.safe_load(config.read_text(encoding="utf-8")) or {}).get("profile"))
    said = os.environ.get("DBT_PROFILES_DIR")
    folders = [Path(said)] if said else [project, Path.home() / ".dbt"]
    for folder in folders:
        if (folder / PROFILES).is_file():
            content = yaml.safe_load((folder / PROFILES).read_text(encoding="utf-8")) or {}
            if name not in content:
                raise UserError(f"{folder / PROFILES}: no profile {name}, which {config} names: add it")
            return folder / PROFILES, name, content[name]
    looked = " or ".join(str(folder) for folder in folders)
    raise UserError(f"{config}: no {PROFILES} in {looked}: set DBT_PROFILES_DIR")
