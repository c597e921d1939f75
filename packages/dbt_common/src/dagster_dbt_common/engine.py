"""The dbt resource: runs dbt in the run's own process on a manifest loaded once, or in a subprocess where asked."""

from __future__ import annotations

import sys
import uuid
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from dagster import AssetExecutionContext, OpExecutionContext  # noqa: TC002 - pydantic reads the annotations
from dagster_dbt import DagsterDbtTranslator, DbtCliInvocation, DbtCliResource, DbtProject
from dagster_dbt.asset_utils import (
    extract_runtime_selection_from_args,
    get_manifest_and_translator_from_dbt_assets,
)
from dagster_dbt.core.dbt_event_iterator import DbtDagsterEventType, DbtEventIterator
from dagster_dbt.dbt_manifest import DbtManifestParam, validate_manifest
from packaging.version import Version
from pydantic import Field

from dagster_dbt_common.chosen_nodes import ChosenNodes, choose_nodes
from dagster_dbt_common.dbt_process import AdapterOfRun, InProcessDbt
from dagster_dbt_common.parsed_manifest import SELECTED_TAG
from dagster_dbt_common.project import dbt_environment
from dagster_dbt_common.relation_metadata import with_columns, with_row_count

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping, Sequence

    from dagster_dbt.core.dbt_cli_event import DbtCliEventMessage
    from dbt.adapters.base.impl import BaseAdapter

Artifact = Literal["manifest.json", "catalog.json", "run_results.json", "sources.json"]


class DbtResource(DbtCliResource):
    """dagster-dbt's `DbtCliResource`, with dbt in the run's own process by default.

    No second interpreter starts, `dbt --version` is not asked, a changed window does not parse the project again, and
    events arrive as they happen. What it selects is exact: the assets and checks of the step, each by itself, so a
    step runs no test that belongs to another one, and no unit tests.

    Args:
        engine: `in_process`, or `subprocess` for another dbt than the one in this environment (`dbt_executable`).
        parsed_dir: the folder of the project's `partial_parse.msgpack`; dbt parses for itself where it is empty.
    """

    engine: Literal["in_process", "subprocess"] = Field(default="in_process")
    parsed_dir: str = Field(default="")
    dbt_executable: str = Field(default=str(Path(sys.executable).parent / "dbt"))

    def __init__(self, project_dir: str | Path | DbtProject, **fields: Any) -> None:
        # DbtCliResource passes its own default on: a `dbt` on PATH, which a served code location may not have.
        super().__init__(project_dir, **{"dbt_executable": str(Path(sys.executable).parent / "dbt"), **fields})

    @classmethod
    def of(cls, project: DbtProject, *, engine: Literal["in_process", "subprocess"] = "in_process") -> DbtResource:
        """Return the resource of a prepared project."""
        return cls(project_dir=project, engine=engine, parsed_dir=str(project.manifest_path.parent))

    def cli(
        self,
        args: Sequence[str],
        *,
        raise_on_error: bool = True,
        manifest: DbtManifestParam | None = None,
        dagster_dbt_translator: DagsterDbtTranslator | None = None,
        context: OpExecutionContext | AssetExecutionContext | None = None,
        target_path: Path | None = None,
        unique_ids: Sequence[str] | None = None,
    ) -> DbtCliInvocation:
        """Start dbt with these arguments; in the context of `@dbt_assets`, on what its step selected.

        Args:
            args: a dbt command and its flags, such as `["build", "--vars", "..."]`.
            raise_on_error: whether a failure of dbt raises when its events have been read.
            manifest: dbt's manifest, where there is no `@dbt_assets`.
            dagster_dbt_translator: the translator, where there is no `@dbt_assets`.
            context: the context of the op.
            target_path: where dbt writes; a folder of the invocation's own by default.
            unique_ids: exactly what is to run, where there is no `@dbt_assets`.

        Raises:
            DagsterDbtCliRuntimeError: by the returned invocation, when dbt failed.
        """
        plain_args, selects, excludes = extract_runtime_selection_from_args(args)
        project: DbtProject | None = None
        chosen = None if unique_ids is None else ChosenNodes(unique_ids, frozenset())
        if context is not None and context.has_assets_def:
            asset_context = cast("AssetExecutionContext", context)
            manifest, dagster_dbt_translator, project = get_manifest_and_translator_from_dbt_assets(
                [asset_context.assets_def]
            )
            chosen = choose_nodes(asset_context, manifest)
        project_dir = Path(project.project_dir if project else self.project_dir)
        target = project_dir / (target_path or Path("target", _invocation_name(context)))
        command = DbtCommand(
            args=[
                *self.global_config_flags,
                *plain_args,
                *_flag("--profile", self.profile),
                *_flag("--target", self.target),
            ],
            chosen=chosen,
            selects=selects,
            excludes=excludes,
            manifest=validate_manifest(manifest) if manifest else {},
            project_dir=project_dir,
            target_path=target,
        )
        start = self._in_process if self.engine == "in_process" else self._subprocess
        return start(command, dagster_dbt_translator or DagsterDbtTranslator(), project, context, raise_on_error)

    def _in_process(
        self,
        command: DbtCommand,
        translator: DagsterDbtTranslator,
        project: DbtProject | None,
        context: OpExecutionContext | AssetExecutionContext | None,
        raise_on_error: bool,
    ) -> DbtCliInvocation:
        places = [
            "--project-dir",
            str(command.project_dir),
            "--profiles-dir",
            self.profiles_dir or str(command.project_dir),
        ]
        process = InProcessDbt(
            [
                *(
                    "--log-level",
                    "none",
                    "--log-level-file",
                    "none",
                    "--no-use-colors",
                    "--no-send-anonymous-usage-stats",
                ),
                *([] if "--write-json" in command.args else ["--no-write-json"]),
                *command.argv([f"tag:{SELECTED_TAG}"]),
                *places,
                *("--target-path", str(command.target_path), "--log-path", str(command.target_path)),
            ],
            partial_parse=Path(self.parsed_dir, "partial_parse.msgpack") if self.parsed_dir else None,
            selected=frozenset(command.chosen.unique_ids) if command.chosen else None,
            whole=bool(command.selects),
        )
        adapter_type = command.manifest.get("metadata", {}).get("adapter_type")
        return LiveDbtInvocation(
            process=cast("subprocess.Popen[bytes]", process),
            manifest=command.manifest,
            dagster_dbt_translator=translator,
            project_dir=command.project_dir,
            target_path=command.target_path,
            raise_on_error=raise_on_error,
            cli_version=Version(version("dbt-core")),
            project=project,
            context=context,
            adapter=cast("BaseAdapter", AdapterOfRun(adapter_type)) if adapter_type else None,
            chosen=command.chosen,
        )

    def _subprocess(
        self,
        command: DbtCommand,
        translator: DagsterDbtTranslator,
        project: DbtProject | None,
        context: OpExecutionContext | AssetExecutionContext | None,
        raise_on_error: bool,
    ) -> DbtCliInvocation:
        env = {
            **dbt_environment(),
            "DAGSTER_DBT_CLI": "true",
            "PYTHONUNBUFFERED": "1",
            "DBT_LOG_FORMAT": "json",
            "DBT_PROJECT_DIR": str(command.project_dir),
            "DBT_PROFILES_DIR": self.profiles_dir or str(command.project_dir),
            "DBT_TARGET_PATH": str(command.target_path),
            "DBT_LOG_PATH": str(command.target_path),
        }
        invocation: DbtCliInvocation = DbtInvocation.run(
            args=[self.dbt_executable, *command.argv(command.names())],
            env=env,
            manifest=command.manifest,
            dagster_dbt_translator=translator,
            project_dir=command.project_dir,
            target_path=command.target_path,
            raise_on_error=raise_on_error,
            context=context,
            adapter=None if self._cli_version.major > 1 else self._initialize_dbt_core_adapter(command.args),
            cli_version=self._cli_version,
            dbt_project=project,
        )
        cast("DbtInvocation", invocation).chosen = command.chosen
        return invocation


@dataclass(frozen=True)
class DbtCommand:
    """A dbt command, with what a Dagster step selected.

    Args:
        args: the command and its flags, without a selection.
        chosen: what is to run, exactly; None where the command is not a step's.
        selects: what the caller adds by `--select`.
        excludes: what the caller takes away by `--exclude`.
        manifest: dbt's manifest.
        project_dir: the project.
        target_path: where dbt writes.
    """

    args: Sequence[str]
    chosen: ChosenNodes | None
    selects: Sequence[str]
    excludes: Sequence[str]
    manifest: Mapping[str, Any]
    project_dir: Path
    target_path: Path

    def names(self) -> Sequence[str]:
        """Return the selection by fully qualified names, for a dbt that knows nothing of this process."""
        nodes = self.manifest.get("nodes", {})
        return [".".join(nodes[unique_id]["fqn"]) for unique_id in (self.chosen.unique_ids if self.chosen else ())]

    def argv(self, selection: Sequence[str]) -> list[str]:
        """Return dbt's arguments, with `selection` for what the step selected."""
        exact = self.chosen is not None
        selects = [*(selection if exact else ()), *self.selects]
        return [
            *(["--indirect-selection", "empty"] if exact else []),
            *self.args,
            *(["--select", *selects] if selects else []),
            *(["--exclude", *self.excludes] if self.excludes else []),
        ]


@dataclass
class DbtInvocation(DbtCliInvocation):
    """dagster-dbt's invocation, which also records the checks that came late.

    Args:
        chosen: what the step runs.
    """

    chosen: ChosenNodes | None = field(default=None, kw_only=True)

    def stream_raw_events(self) -> Iterator[DbtCliEventMessage]:
        """Stream dbt's events; the result of a late test is recorded as an evaluation of its check."""
        for event in super().stream_raw_events():
            unique_id = event.raw_event["data"].get("node_info", {}).get("unique_id")
            if self.context and self.chosen and unique_id in self.chosen.late_tests and event.is_result_event:
                evaluations = event.to_default_asset_events(
                    self.manifest, self.dagster_dbt_translator, target_path=self.target_path, project=self.project
                )
                for evaluation in evaluations:
                    self.context.log_event(cast("Any", evaluation))  # taken at run time, missing in its annotation
                continue
            yield event


@dataclass
class LiveDbtInvocation(DbtInvocation):
    """dagster-dbt's invocation of a dbt that runs in this process."""

    def stream(self) -> LiveDbtEvents:
        """Return Dagster's events for dbt's, as they happen."""
        return LiveDbtEvents(iter(super().stream()), self)

    def stream_raw_events(self) -> Iterator[DbtCliEventMessage]:
        """Stream dbt's events, and at their end close what the reading of metadata has opened again after dbt."""
        try:
            yield from super().stream_raw_events()
        finally:
            cast("InProcessDbt", self.process).close_connections()

    def get_artifact(self, artifact: Artifact) -> dict[str, Any]:
        """Return an artifact of dbt's; the ones of 10 MB are written when they are asked for, not in each run.

        Raises:
            FileNotFoundError: this command makes no such artifact.
        """
        self.process.wait()
        path = self.target_path / artifact
        result = cast("InProcessDbt", self.process).result
        if not path.exists() and result is not None:
            if artifact == "manifest.json":
                return dict(self.manifest)
            write = getattr(result.result, "write", None)
            if artifact == "run_results.json" and write is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                write(str(path))
        return super().get_artifact(artifact)


class LiveDbtEvents(DbtEventIterator[DbtDagsterEventType]):
    """dagster-dbt's event stream, with metadata fetched by the thread that reads, one event at a time.

    dagster-dbt's own reads ahead in another thread, for which a cancelled step would wait until dbt has ended, and
    waits for it in a loop that never sleeps.
    """

    def fetch_row_counts(self) -> LiveDbtEvents:
        """Attach the row count of each table that was built, as `DbtEventIterator.fetch_row_counts` does."""
        invocation = self._dbt_cli_invocation
        return LiveDbtEvents((with_row_count(invocation, event) for event in self), invocation)

    def fetch_column_metadata(self, with_column_lineage: bool = True) -> LiveDbtEvents:
        """Attach the columns of each relation, as `DbtEventIterator.fetch_column_metadata` does.

        Lineage is dagster-dbt's own, an event at a time; a cancelled step waits for the event in hand.
        """
        invocation = self._dbt_cli_invocation
        if not with_column_lineage:
            return LiveDbtEvents((with_columns(invocation, event) for event in self), invocation)
        return LiveDbtEvents(
            (
                fetched
                for event in self
                for fetched in DbtEventIterator(iter([event]), invocation).fetch_column_metadata()
            ),
            invocation,
        )


def _invocation_name(context: OpExecutionContext | AssetExecutionContext | None) -> str:
    unique = uuid.uuid4().hex[:7]
    if context is None:
        return unique
    return f"{context.op_execution_context.op.name}-{context.run.run_id[:7]}-{unique}"


def _flag(name: str, value: str | None) -> Sequence[str]:
    return [name, value] if value else []
