"""The throwaway project: its files, and its schema in the target."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dagster_dbt_common.errors import DbtConfigError
from dagster_dbt_common.project.fingerprint import MACROS_DIR, MACROS_VARIABLE
from dagster_dbt_common.project.prepared import prepared_project
from dagster_dbt_common.proofs.kinds import KINDS, VISITS

if TYPE_CHECKING:
    from collections.abc import Mapping

PROJECT = "headrace_check"
_SCHEMA = "check_"
_DROP = """
{% macro drop_schema_of_check(name) %}
    {# Spark has no databases. #}
    {% do adapter.drop_schema(api.Relation.create(database=target.database or none, schema=name)) %}
{% endmacro %}
"""


@dataclass(frozen=True)
class Throwaway:
    """A dbt project of the proofs' own, in a target that a team has.

    Args:
        root: its folder.
        target: a target other than the profile's default.
    """

    root: Path
    target: str | None

    @classmethod
    def make(cls, root: Path, project_dir: str | Path, *, profile: str | None, target: str | None) -> Throwaway:
        """Write the files; nothing is made in the target.

        Args:
            root: an empty folder.
            project_dir: the folder of a team's `dbt_project.yml`, whose profile is taken.
            profile: a profile other than the project's.
            target: a target other than the profile's default.

        Raises:
            DbtConfigError: the team's project cannot be parsed, or this one with its profile.
        """
        project = prepared_project(project_dir, profile=profile, target=target)
        named = yaml.safe_load((project.project_dir / "dbt_project.yml").read_text(encoding="utf-8"))
        for name, text in {
            "dbt_project.yml": json.dumps(
                {
                    "name": PROJECT,
                    "profile": project.profile or named["profile"],
                    "macro-paths": ["macros", str(MACROS_DIR)],
                    "models": {PROJECT: {"+schema": f"{_SCHEMA}{secrets.token_hex(4)}"}},
                    "flags": {"send_anonymous_usage_stats": False},
                }
            ),
            "macros/drop.sql": _DROP,
            "models/visits.sql": VISITS,
            **{f"models/{kind.name}.sql": kind.sql for kind in KINDS},
        }.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        shutil.copy(Path(project.profiles_dir) / "profiles.yml", root)
        prepared_project(root, target=target)  # parsed by this process, and read by that of the builds
        return cls(root, target)

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """Return its manifest."""
        manifest = prepared_project(self.root, target=self.target).manifest_path
        read: Mapping[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
        return read

    @property
    def schemas(self) -> set[str]:
        """Return the names of the schemas that its models are in."""
        return {node["schema"] for node in self.manifest["nodes"].values()}

    def drop(self) -> None:
        """Drop the schema, with what is in it.

        Raises:
            DbtConfigError: dbt cannot drop it, or its name is not that which was chosen for it.
        """
        project = json.loads((self.root / "dbt_project.yml").read_text(encoding="utf-8"))
        own = project["models"][PROJECT]["+schema"]
        for name in self.schemas:
            if not name.endswith(own):
                raise DbtConfigError(f"{name} is not the schema of this check: it is left as it is")
            self._call("run-operation", "drop_schema_of_check", "--args", json.dumps({"name": name}))

    def _call(self, *arguments: str) -> None:
        done = subprocess.run(  # noqa: S603 - the command of this environment
            [
                Path(sys.executable).with_name("dbt"),
                *("--quiet", "--no-use-colors"),
                *arguments,
                *(("--target", self.target) if self.target else ()),
            ],
            cwd=self.root,
            env={**os.environ, MACROS_VARIABLE: str(MACROS_DIR)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # no Ctrl-C ends it
        )
        if done.returncode:
            raise DbtConfigError(f"dbt {arguments[0]}: {' '.join((done.stdout + done.stderr).split())[:500]}")
