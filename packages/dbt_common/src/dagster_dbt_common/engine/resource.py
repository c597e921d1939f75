"""The dbt resource: runs dbt in the run's own process on a manifest loaded once, or in a subprocess where asked."""

from __future__ import annotations

import json
import shutil
import sys
import uuid
import weakref
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from dagster import AssetExecutionContext, InitResourceContext, OpExecutionContext  # noqa: TC002 - pydantic reads the annotations
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, DbtProject
from dagster_dbt.asset_utils import (
    extract_runtime_selection_from_args,
    get_manifest_and_translator_from_dbt_assets,
)
from dagster_dbt.dbt_manifest import DbtManifestParam, validate_manifest
from packaging.version import Version
from pydantic import Field, PrivateAttr

from dagster_dbt_common.engine.chosen_nodes import ChosenNodes, choose_nodes
from dagster_dbt_common.engine.invocation import DbtCommand, DbtInvocation, LiveDbtInvocation
from dagster_dbt_common.engine.process import AdapterOfRun, InProcessDbt
from dagster_dbt_common.project.parsed_manifest import SELECTED_TAG
from dagster_dbt_common.project.prepared import dbt_environment

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

    from dbt.adapters.base.impl import BaseAdapter

_RUNS = Path("target", "runs")
_KEPT_RUNS = 50


class DbtResource(DbtCliResource):
    """dagster-dbt's `DbtCliResource`, with dbt in the run's own process by default.

    No second interpreter starts, `dbt --version` is not asked, a changed window does not parse the project again, and
    events arrive as they happen. What it selects is exact: the assets and checks of the step, each by itself, so a
    step runs no test that belongs to another one, and no unit tests.

    Attributes:
        engine: `in_process`, or `subprocess` for another dbt than the one in this environment (`dbt_executable`).
        parsed_dir: the folder of the project's `partial_parse.msgpack`; dbt parses for itself where it is empty.
    """

    engine: Literal["in_process", "subprocess"] = Field(default="in_process")
    parsed_dir: str = Field(default="")
    dbt_executable: str = Field(default=str(Path(sys.executable).parent / "dbt"))
    _started: list[weakref.ref[DbtInvocation]] = PrivateAttr(default_factory=list)

    def __init__(self, project_dir: str | Path | DbtProject, **fields: Any) -> None:
        # DbtCliResource passes its own default on: a `dbt` on PATH, which a served code location may not have.
        super().__init__(project_dir, **{"dbt_executable": str(Path(sys.executable).parent / "dbt"), **fields})

    @classmethod
    def of(cls, project: DbtProject, *, engine: Literal["in_process", "subprocess"] = "in_process") -> DbtResource:
        """Return the resource of a prepared project."""
        return cls(project_dir=project, engine=engine, parsed_dir=str(project.manifest_path.parent))

    def warm_up(self) -> None:
        """Do once what each process does before its first model: read the manifest, and let dbt list one node.

        To be called by a process that is then forked. It opens no connection, and its thread has ended.
        """
        if self.engine != "in_process" or not self.parsed_dir:
            return
        manifest = json.loads(Path(self.parsed_dir, "manifest.json").read_bytes())
        nodes = [name for name, node in manifest["nodes"].items() if node["resource_type"] == "model"]
        invocation = self.cli(["list"], manifest=manifest, unique_ids=nodes[:1], raise_on_error=False)
        invocation.process.wait()

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
    ) -> DbtInvocation:
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
            chosen = choose_nodes(asset_context, manifest, dagster_dbt_translator, project)
        project_dir = Path(project.project_dir if project else self.project_dir)
        target = project_dir / (target_path or _new_target(project_dir, context))
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
        invocation = start(command, dagster_dbt_translator or DagsterDbtTranslator(), project, context, raise_on_error)
        self._started[:] = [*(each for each in self._started if each() is not None), weakref.ref(invocation)]
        return invocation

    def _in_process(
        self,
        command: DbtCommand,
        translator: DagsterDbtTranslator,
        project: DbtProject | None,
        context: OpExecutionContext | AssetExecutionContext | None,
        raise_on_error: bool,
    ) -> DbtInvocation:
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
            project_dir=command.project_dir,
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
    ) -> DbtInvocation:
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
        invocation = DbtInvocation.run(
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
        own = cast("DbtInvocation", invocation)
        own.chosen = command.chosen
        # Each of its threads goes into the project's folder and back, and the folder is the whole process's: of two
        # threads, one goes back to where the other has gone, and the run stays there.
        own.postprocessing_threadpool_num_threads = 1
        return own


class DbtResourceOfRuns(DbtResource):
    """The resource of `dbt_definitions`, which ends with each run what its steps have left.

    Dagster gives a resource with a teardown to nobody but its runs, and to a test in a `with` block; so the resource
    that a project makes for itself has none.
    """

    def teardown_after_execution(self, context: InitResourceContext) -> None:  # noqa: ARG002 - Dagster's interface
        """End each dbt that still runs: Dagster failed to record what it had built, and the step that reads it is gone.

        Args:
            context: as Dagster gives it.
        """
        with ExitStack() as stack:
            for started in self._started:
                if invocation := started():
                    stack.callback(invocation.end)
        self._started.clear()


def _new_target(project_dir: Path, context: OpExecutionContext | AssetExecutionContext | None) -> Path:
    """Return a folder of its own for what dbt writes in an invocation, and forget the oldest of many."""
    runs = project_dir / _RUNS
    if runs.is_dir():
        for old in sorted(runs.iterdir(), key=lambda folder: folder.name, reverse=True)[_KEPT_RUNS:]:
            shutil.rmtree(old, ignore_errors=True)
    return _RUNS / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{_invocation_name(context)}"


def _invocation_name(context: OpExecutionContext | AssetExecutionContext | None) -> str:
    unique = uuid.uuid4().hex[:7]
    if context is None:
        return unique
    return f"{context.op_execution_context.op.name}-{context.run.run_id[:7]}-{unique}"


def _flag(name: str, value: str | None) -> Sequence[str]:
    return [name, value] if value else []
