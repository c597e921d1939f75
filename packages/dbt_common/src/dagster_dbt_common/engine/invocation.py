"""A dbt command and its run, as dagster-dbt's invocation: events as they happen, artifacts when they are asked for."""

from __future__ import annotations

import gc
import signal
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from subprocess import TimeoutExpired
from typing import TYPE_CHECKING, Any, Literal, cast

from dagster_dbt import DbtCliInvocation
from dagster_dbt.core.dbt_event_iterator import DbtDagsterEventType, DbtEventIterator
from dagster_dbt.errors import DagsterDbtCliRuntimeError

from dagster_dbt_common.engine.process import close_connections
from dagster_dbt_common.engine.relation_metadata import with_columns, with_row_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from dagster_dbt.core.dbt_cli_event import DbtCliEventMessage

    from dagster_dbt_common.engine.chosen_nodes import ChosenNodes
    from dagster_dbt_common.engine.process import AdapterOfRun, InProcessDbt

Artifact = Literal["manifest.json", "catalog.json", "run_results.json", "sources.json"]


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
        events: what dagster-dbt makes of dbt's lines, as far as it was not read.
    """

    chosen: ChosenNodes | None = field(default=None, kw_only=True)
    events: Iterator[DbtCliEventMessage] = field(default_factory=lambda: iter(()), kw_only=True)

    def stream_raw_events(self) -> Iterator[DbtCliEventMessage]:
        """Stream dbt's events; the result of a late test is recorded as an evaluation of its check."""
        self.events = super().stream_raw_events()
        for event in self.events:
            unique_id = event.raw_event["data"].get("node_info", {}).get("unique_id")
            if self.context and self.chosen and unique_id in self.chosen.late_tests and event.is_result_event:
                evaluations = event.to_default_asset_events(
                    self.manifest, self.dagster_dbt_translator, target_path=self.target_path, project=self.project
                )
                for evaluation in evaluations:
                    self.context.log_event(cast("Any", evaluation))  # taken at run time, missing in its annotation
                continue
            yield event

    def stream(self) -> DbtAssetEvents:
        """Return Dagster's events for dbt's, as they happen."""
        return DbtAssetEvents(iter(super().stream()), self)

    def end(self) -> None:
        """End dbt where it still runs, and close what was opened.

        What it says is read meanwhile: it would wait for a reader of a full pipe, and not for a signal.
        """
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.communicate(timeout=self.termination_timeout_seconds)
            except TimeoutExpired:
                self.process.kill()
                self.process.communicate()
        self._read_rest()
        self.close()

    def _read_rest(self) -> None:
        """Bring dagster-dbt's generator to its end, once dbt has ended: it takes its own for a line of dbt's."""
        with suppress(DagsterDbtCliRuntimeError, ValueError):  # ValueError: what it reads is closed
            deque(self.events, maxlen=0)

    def close(self) -> None:
        """Close what the reading of row counts and columns has opened, and with it the lock on a DuckDB file."""
        if self.adapter is not None:
            close_connections(self.adapter)
            # dagster-dbt asks for the columns of a test too, which has none. The stacks of that error refer to one
            # another and to a cursor, which has the file open: until they are collected dbt's next process cannot.
            gc.collect()


@dataclass
class LiveDbtInvocation(DbtInvocation):
    """dagster-dbt's invocation of a dbt that runs in this process."""

    def close(self) -> None:
        """Close what the reading of metadata has opened again after dbt; the end of the events does so too."""
        if self.adapter is not None:
            cast("AdapterOfRun", self.adapter).close()
        cast("InProcessDbt", self.process).close_connections()

    def stream_raw_events(self) -> Iterator[DbtCliEventMessage]:
        """Stream dbt's events.

        Where the reader leaves before the end, since Dagster failed to record an event for one, dbt is canceled: else
        it would go on behind the back of a step that has failed.
        """
        try:
            yield from super().stream_raw_events()
        except GeneratorExit:
            # The garbage collector's perhaps, in one of dbt's own threads: whoever waits here for dbt waits for ever.
            threading.Thread(target=cast("InProcessDbt", self.process).cancel, name="cancels dbt", daemon=True).start()
            raise
        finally:
            self.close()

    def end(self) -> None:
        """End dbt where it still runs, and close what was opened."""
        process = cast("InProcessDbt", self.process)
        process.cancel()
        with suppress(TimeoutExpired):
            process.wait(timeout=self.termination_timeout_seconds)
            self._read_rest()
        self.close()

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
            if artifact in ("run_results.json", "sources.json") and write is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                write(str(path))
        return super().get_artifact(artifact)


class DbtAssetEvents(DbtEventIterator[DbtDagsterEventType]):
    """dagster-dbt's event stream, with metadata fetched by the thread that reads, one event at a time.

    dagster-dbt's own reads ahead in another thread, for which a cancelled step would wait until dbt has ended, and
    waits for it in a loop that never sleeps.
    """

    def fetch_row_counts(self) -> DbtAssetEvents:
        """Attach the row count of each table that was built, as `DbtEventIterator.fetch_row_counts` does."""
        invocation = self._dbt_cli_invocation
        return DbtAssetEvents((with_row_count(invocation, event) for event in self._readable()), invocation)

    def fetch_column_metadata(self, with_column_lineage: bool = True) -> DbtAssetEvents:
        """Attach the columns of each relation, as `DbtEventIterator.fetch_column_metadata` does.

        Lineage is dagster-dbt's own, an event at a time; a cancelled step waits for the event in hand.
        """
        invocation = self._dbt_cli_invocation
        if not with_column_lineage:
            return DbtAssetEvents((with_columns(invocation, event) for event in self._readable()), invocation)
        return DbtAssetEvents(
            (
                fetched
                for event in self._readable()
                for fetched in DbtEventIterator(iter([event]), invocation).fetch_column_metadata()
            ),
            invocation,
        )

    def _readable(self) -> Iterator[DbtDagsterEventType]:
        """Return the events once the warehouse can be read: a DuckDB file is another process's until dbt has ended."""
        adapter = self._dbt_cli_invocation.adapter
        if isinstance(self._dbt_cli_invocation, LiveDbtInvocation) or adapter is None or adapter.type() != "duckdb":
            return iter(self)
        return _once_ended(self)


def _once_ended(events: Iterator[DbtDagsterEventType]) -> Iterator[DbtDagsterEventType]:
    """Yield the events when there are no more; those before an error come before it."""
    ended: list[DbtDagsterEventType] = []
    failed = None
    try:
        ended.extend(events)
    except Exception as error:
        failed = error
    yield from ended
    if failed is not None:
        raise failed
