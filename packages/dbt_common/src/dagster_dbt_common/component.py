"""The dg component of `dbt_definitions`: its attributes are the call's options, nothing more."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, cast

import dagster as dg
from pydantic import BaseModel, ImportString, TypeAdapter

from dagster_dbt_common.assets.translator import PartitionedDbtTranslator
from dagster_dbt_common.definitions import dbt_definitions


class PartitionedDbtProjectScaffoldParams(BaseModel):
    """What `dg scaffold defs` takes: where the dbt project is, relative to the current folder."""

    project_path: str


class PartitionedDbtProjectScaffolder(dg.Scaffolder[PartitionedDbtProjectScaffoldParams]):
    """Writes a `defs.yaml` that names the dbt project relative to the Dagster project."""

    @classmethod
    def get_scaffold_params(cls) -> type[PartitionedDbtProjectScaffoldParams]:
        """Return the parameters of the command."""
        return PartitionedDbtProjectScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[PartitionedDbtProjectScaffoldParams]) -> None:
        """Write `defs.yaml`.

        Raises:
            ValueError: there is no dbt project at the path.
        """
        path = Path(request.params.project_path)
        if not (path / "dbt_project.yml").is_file():
            raise ValueError(f"--project-path {path}: there is no dbt_project.yml: give the folder of a dbt project")
        relative = os.path.relpath(path.resolve(), start=(request.project_root or Path.cwd()).resolve())
        dg.scaffold_component(request, {"project_dir": f"{{{{ project_root }}}}/{relative}"})


def _translator(_context: dg.ResolutionContext, path: str) -> type[PartitionedDbtTranslator]:
    translator: type[PartitionedDbtTranslator] = TypeAdapter(
        ImportString[type[PartitionedDbtTranslator]]
    ).validate_python(path)
    return translator


def _automation(context: dg.ResolutionContext, value: str) -> str | dg.AutomationCondition[dg.AssetKey] | None:
    # A template gives the condition itself; the type is only for what is written as text.
    return cast("str | dg.AutomationCondition[dg.AssetKey] | None", context.resolve_value(value))


@dg.scaffold_with(PartitionedDbtProjectScaffolder)
@dataclass
class PartitionedDbtProjectComponent(dg.Component, dg.Resolvable):
    """A dbt project, partitioned by its own config.

    Args:
        project_dir: the folder of `dbt_project.yml`; `{{ project_root }}` stands for the Dagster project's folder.
        target: a target other than the profile's default.
        profile: a profile other than the project's.
        name: the name of the unpartitioned group's op and the prefix of the others'.
        translator: the import path of a subclass of `PartitionedDbtTranslator`.
        automation: `eager`, `none` or `cron '0 6 * * *'`; or a condition of your own, by a template.
        dbt_flags: flags that every `dbt build` gets.
        partitions_per_run: as for `dbt_definitions`.
        test_all_rows: as for `dbt_definitions`.
        ducklake_keep_days: as for `dbt_definitions`.
    """

    project_dir: str
    target: str | None = None
    profile: str | None = None
    name: str | None = None
    translator: Annotated[type[PartitionedDbtTranslator], dg.Resolver(_translator, model_field_type=str)] = (
        PartitionedDbtTranslator
    )
    automation: Annotated[
        str | dg.AutomationCondition[dg.AssetKey] | None, dg.Resolver(_automation, model_field_type=str)
    ] = None
    dbt_flags: Sequence[str] = field(default_factory=list)
    partitions_per_run: int | None = None
    test_all_rows: str | None = None
    ducklake_keep_days: int | None = None

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the project's definitions."""
        return dbt_definitions(
            context.path / self.project_dir,
            target=self.target,
            profile=self.profile,
            name=self.name,
            translator=self.translator,
            automation=self.automation,
            dbt_flags=self.dbt_flags,
            partitions_per_run=self.partitions_per_run,
            test_all_rows=self.test_all_rows,
            ducklake_keep_days=self.ducklake_keep_days,
        )
