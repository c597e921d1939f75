"""The dbt profile of a CI build: the project's own, with a file or a schema of its own to write."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from headrace.cli.user_errors import UserError

PROFILES = "profiles.yml"


@dataclass(frozen=True)
class Target:
    """A target of a project's profile.

    Args:
        file: the file of the profile.
        profile: the profile's name.
        name: its own name.
        output: what the file says of it.
        environment: the variables by which dbt renders that.
    """

    file: Path
    profile: str
    name: str
    output: Mapping[str, Any]
    environment: Mapping[str, str]

    @classmethod
    def of(cls, project: Path, target: str | None, *, environment: Mapping[str, str]) -> "Target":
        """Return a target.

        Args:
            project: the folder of `dbt_project.yml`.
            target: its name; the profile's default where None.
            environment: the variables that dbt gets, by which the profile may choose its default target.

        Raises:
            UserError: there is no such profile or target.
        """
        file, profile, content = _profile(project)
        name = target or _rendered(str(content.get("target", "default")), file, environment)
        output = (content.get("outputs") or {}).get(name)
        if output is None:
            raise UserError(f"{file}: profile {profile} has no target {name}: choose one with --target")
        return cls(file, profile, name, output, environment)

    @property
    def kind(self) -> Literal["file", "ducklake", "postgres"]:
        """Return what its warehouse is.

        Raises:
            UserError: it is none of those beside which CI builds.
        """
        if self.output.get("type") == "postgres":
            return "postgres"
        if self.output.get("type") != "duckdb":
            raise UserError(
                f"{self.file}: target {self.name} of {self.profile} is of type {self.output.get('type')}, and "
                "`headrace dbt ci` builds in a DuckDB file, a DuckLake or a Postgres: choose another one with "
                "--target, or run `dbt build --select state:modified+ --defer`"
            )
        written = [entry for entry in self.output.get("attach") or () if entry.get("alias") == self._written]
        if not written or self._written is None:
            return "file"
        if written[0].get("is_ducklake"):
            return "ducklake"
        raise UserError(
            f"{self.file}: target {self.name} of {self.profile} writes the attached database {self._written}, and "
            "`headrace dbt ci` builds in a DuckDB file, a DuckLake or a Postgres: choose another one with --target"
        )

    @property
    def _written(self) -> str | None:
        database = self.output.get("database")
        return None if database is None else str(database)

    def rendered(self, *keys: str) -> str:
        """Return what dbt makes of the first of some keys that the target has; nothing where it has none.

        Raises:
            UserError: it reads a variable that is not set.
        """
        found = next((self.output[key] for key in keys if self.output.get(key) is not None), "")
        return _rendered(str(found), self.file, self.environment)

    def attached_as(self, alias: str) -> str | None:
        """Return the rendered path of what the target attaches under a name; None where it does not."""
        paths = [str(entry.get("path")) for entry in self.output.get("attach") or () if entry.get("alias") == alias]
        return _rendered(paths[0], self.file, self.environment) if paths else None

    def in_a_file(self, scratch: Path, production: Path, database: str) -> str:
        """Return the text of a `profiles.yml` whose one target writes `scratch`.

        Its text is the project's, so that settings, secrets and extensions stay, and Jinja in it is dbt's to render.
        All that it attaches is read-only: what a model's config names as its `database` cannot be written.

        Args:
            scratch: the DuckDB file that is written.
            production: the DuckDB file that is read.
            database: the name under which production is read.
        """
        attached = [{**entry, "read_only": True} for entry in self.output.get("attach") or ()]
        attached.append({"path": str(production), "alias": f'"{database}"', "read_only": True})
        kept = {key: value for key, value in self.output.items() if key != "database"}
        return self._text({**kept, "path": str(scratch), "attach": attached})

    def in_a_schema(self, schema: str) -> str:
        """Return the text of a `profiles.yml` whose one target writes a schema of its own beside production's.

        Args:
            schema: its name, with which dbt begins those of models that have a schema by their config.
        """
        attached = [
            entry if entry.get("alias") == self._written else {**entry, "read_only": True}
            for entry in self.output.get("attach") or ()
        ]
        return self._text({**self.output, "schema": schema, **({"attach": attached} if attached else {})})

    def _text(self, output: Mapping[str, Any]) -> str:
        content = {self.profile: {"target": self.name, "outputs": {self.name: output}}}
        return yaml.safe_dump(content, allow_unicode=True)


def production_file(project: Path, target: str | None, *, environment: Mapping[str, str]) -> Path | None:
    """Return the DuckDB file that a project's own profile writes; None where that is not to be told by variables.

    Args:
        project: the folder of `dbt_project.yml`.
        target: the profile's target; its default where None.
        environment: the variables of production.
    """
    try:
        path = Target.of(project, target, environment=environment).rendered("path")
    except UserError:
        return None
    return project / path if path else None


def _rendered(text: str, file: Path, environment: Mapping[str, str]) -> str:
    """Return a text of a profile, whose Jinja dbt renders with environment variables alone.

    Sources: https://docs.getdbt.com/reference/dbt-jinja-functions/env_var, and .../as_number.
    """

    def env_var(name: str, default: str | None = None) -> str:
        value = environment.get(name, default)
        if value is None:
            raise UserError(
                f"{file}: its target reads {name}, which is not set: set it, or choose a target with --target"
            )
        return value

    jinja = SandboxedEnvironment(undefined=StrictUndefined)
    # What they make of a value is a text again here.
    jinja.filters.update(dict.fromkeys(("as_bool", "as_native", "as_number", "as_text"), str))
    try:
        return jinja.from_string(text).render(env_var=env_var)
    except TemplateError as error:
        raise UserError(f"{file}: its target {text}: {error}: choose one with --target") from None


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
