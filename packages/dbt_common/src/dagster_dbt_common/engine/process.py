"""dbt in this process, behind the interface of the child process that dagster-dbt expects.

dagster-dbt reads JSON lines from `process.stdout`, waits for the process and signals it. `InProcessDbt` gives it the
same from a thread that runs dbt's own `dbtRunner`, so that all that dagster-dbt makes of dbt's events stays its own.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import threading
import time
from contextlib import chdir
from copy import copy
from functools import cached_property
from multiprocessing import get_context
from queue import SimpleQueue
from subprocess import TimeoutExpired
from typing import TYPE_CHECKING, Any, Self, cast

import orjson

from dagster_dbt_common.project.fingerprint import MACROS_DIR, MACROS_VARIABLE
from dagster_dbt_common.project.parsed_manifest import ParsedManifest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from dbt.adapters.base.impl import BaseAdapter
    from dbt.cli.main import dbtRunnerResult
    from dbt_common.events.base_types import EventMsg

_USER_LEVELS = {"info", "warn", "error"}
_ONE_AT_A_TIME = threading.Lock()  # dbt's flags, events and adapters are global to a process.


class DbtEvents:
    """What dbt says, a JSON line for each event, in the order of the events, as they happen."""

    def __init__(self, process: InProcessDbt) -> None:
        self._process = process
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()
        self.closed = False

    def put(self, event: dict[str, Any]) -> None:
        """Add an event; called by dbt's threads."""
        self._lines.put(orjson.dumps(event, default=str))

    def end(self) -> None:
        """Say that there is no more."""
        self._lines.put(None)

    def __iter__(self) -> Iterator[bytes]:
        while (line := self._lines.get()) is not None:
            yield line

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True
        # A reader that leaves early would leave dbt's threads at work in a process that thinks it is done.
        if kind is not None:
            self._process.cancel()


class InProcessDbt:
    """One invocation of dbt in a thread of this process, with the interface of `subprocess.Popen`.

    Args:
        args: dbt's arguments, from the command on.
        project_dir: where dbt runs, as the child process would: what a profile or a source says relative is from here.
        partial_parse: the `partial_parse.msgpack` of a parsed project; dbt parses for itself where there is none.
        selected: unique ids that alone have the tag `dagster_selected` in this invocation; None leaves tags alone.
        whole: whether the arguments select more than these, so that dbt needs the whole project.
    """

    def __init__(
        self,
        args: Sequence[str],
        *,
        project_dir: Path,
        partial_parse: Path | None,
        selected: Collection[str] | None,
        whole: bool,
    ) -> None:
        self.args = ["dbt", *args]
        self.returncode: int | None = None
        self.result: dbtRunnerResult | None = None
        self.stdout = DbtEvents(self)
        self._project_dir = project_dir
        self._partial_parse = partial_parse
        self._selected = selected
        self._whole = whole
        self._began = self._canceled = False
        self._thread = threading.Thread(target=self._run, name="dbt", daemon=True)
        self._thread.start()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for dbt's end and return its exit code: 0, 1 for failures, 2 for what dbt could not begin.

        Raises:
            subprocess.TimeoutExpired: dbt has not ended within `timeout` seconds.
        """
        self._thread.join(timeout)
        if self.returncode is None:
            raise TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def poll(self) -> int | None:
        """Return dbt's exit code, None while it runs."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Cancel dbt, as SIGINT does for its command line; any other signal is refused.

        Raises:
            ValueError: the signal is not SIGINT or SIGTERM.
        """
        if number not in (signal.SIGINT, signal.SIGTERM):
            raise ValueError(f"dbt in this process takes SIGINT or SIGTERM, not {number}")
        self.cancel()

    def cancel(self, timeout: float = 10.0) -> None:
        """Stop dbt: interrupt the statements in flight, start no more, roll back; returns when it has ended.

        dbt's own path for Ctrl-C, a KeyboardInterrupt in the thread that schedules its nodes. That thread waits for a
        node to end, so the statements are interrupted first, again and again: a node may be just before its own.
        """
        deadline = time.monotonic() + timeout
        raised = False
        self._canceled = True
        # While it waits for another dbt of this process it has nothing to interrupt, and ends when it is let in.
        while self._began and self._thread.is_alive() and time.monotonic() < deadline:
            if not raised and self._thread.ident:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._thread.ident), ctypes.py_object(KeyboardInterrupt)
                )
                raised = True
            for adapter in _live_adapters():
                _cancel_statements(adapter)
            self._thread.join(0.1)

    def close_connections(self) -> None:
        """Close the connections that were opened after dbt's end, and with them the lock on a DuckDB file."""
        # Another dbt that runs by now needs its connections, and closes all of them itself.
        if not self._thread.is_alive() and _ONE_AT_A_TIME.acquire(blocking=False):
            try:
                for adapter in _live_adapters():
                    close_connections(adapter)
                if self.returncode:
                    # The stacks of its errors refer to one another and to a connection, which has the file open.
                    gc.collect()
            finally:
                _ONE_AT_A_TIME.release()

    def _run(self) -> None:
        try:
            with _ONE_AT_A_TIME:
                self._began = True
                if not self._canceled:
                    self._invoke()
                else:
                    self.returncode = 2
        except BaseException as error:  # whatever it is, the reader of the events has to hear of it
            self.returncode = 2
            self.stdout.put(_error_event(error))
        finally:
            self.stdout.end()

    def _invoke(self) -> None:
        # As in the process that parsed: dbt reads the project's own config again, and may ask where the macros are.
        os.environ.setdefault(MACROS_VARIABLE, str(MACROS_DIR))
        manifest = None
        if self._partial_parse and self._partial_parse.is_file():
            manifest = ParsedManifest.read(self._partial_parse).for_invocation(self._selected, whole=self._whole)
        # Heavy, and not needed where a process only loads definitions.
        from dbt.cli.main import dbtRunner

        with chdir(self._project_dir):
            self.result = dbtRunner(manifest=manifest, callbacks=[self._on_event]).invoke(list(self.args[1:]))
        if self.result.exception is not None:
            self.stdout.put(_error_event(self.result.exception))
            _forget_stacks(self.result.exception)
        self.returncode = 0 if self.result.success else 2 if self.result.exception is not None else 1

    def _on_event(self, message: EventMsg) -> None:
        if message.info.level in _USER_LEVELS:
            from dbt_common.events.functions import msg_to_dict

            self.stdout.put(msg_to_dict(message))


class AdapterOfRun:
    """The adapter that dbt uses in this process, for reading what a model has become while dbt goes on.

    dagster-dbt holds a `DuckDBAdapter`'s events back until dbt has ended, since a second process could not open the
    file before. Here there is no second process, so this stands in front of the adapter.

    Args:
        adapter_type: the type in the manifest's metadata, `duckdb` for one.
    """

    def __init__(self, adapter_type: str) -> None:
        self._type = adapter_type

    @cached_property
    def _own(self) -> BaseAdapter:
        # With connections of its own: at its end dbt closes those of all threads of its adapter, while one of them may
        # be reading here. A copy: to make one, dbt-adapters 1.24 reads the source of each frame of the stack, for 20 ms
        # in a run, and 0.4 s in a test.
        from dbt.adapters.factory import get_adapter_by_type

        adapter = copy(cast("BaseAdapter", get_adapter_by_type(self._type)))
        adapter.connections = type(adapter).ConnectionManager(adapter.config, get_context("spawn"))
        return adapter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def close(self) -> None:
        """Close the connections that reading has opened."""
        if "_own" in self.__dict__:
            self._own.cleanup_connections()


def close_connections(adapter: BaseAdapter) -> None:
    """Close an adapter's connections, and the file of one that keeps it open between them, as dbt-duckdb's does."""
    adapter.cleanup_connections()
    close_file = getattr(adapter.connections, "close_all_connections", None)
    if close_file is not None:
        close_file()


def _cancel_statements(adapter: BaseAdapter) -> None:
    """Interrupt the statements of an adapter's connections."""
    if adapter.type() == "duckdb":
        adapter.cancel_open_connections()
        return
    # Elsewhere, as in Postgres, a statement is ended by another one, for which this thread needs a connection too.
    with adapter.connection_named("cancels"):
        adapter.cancel_open_connections()


def _live_adapters() -> list[BaseAdapter]:
    from dbt.adapters.factory import FACTORY

    return cast("list[BaseAdapter]", list(FACTORY.adapters.values()))


def _forget_stacks(error: BaseException | None) -> None:
    """Forget where an error and its causes came from: one of those frames may have opened the file of a connection."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            waiting += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]


def _error_event(error: BaseException) -> dict[str, Any]:
    message = str(error) or type(error).__name__
    return {"info": {"name": "MainEncounteredError", "level": "error", "msg": message}, "data": {"exc": message}}
