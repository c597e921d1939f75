"""The processes that are measured: their seconds, their memory, and an end of the benchmark where one fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bench.child import MARK, MEMORY_VARIABLE
from bench.memory import TreeMemory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

ROOT = Path(__file__).parent.parent
_SHOWN_LINES = 60


class ChildFailedError(Exception):
    """A measured process failed; the message has the end of its output."""


@dataclass(frozen=True)
class Sample:
    """One measurement.

    Args:
        seconds: wall time.
        own_mb: the most memory that the process had resident; None where it is not the process's own measurement.
        tree_mb: the most that it and its descendants had together, as sampled.
    """

    seconds: float
    own_mb: float | None = None
    tree_mb: float | None = None


@dataclass(frozen=True)
class Finished:
    """A process that succeeded: its sample, and what it said to the benchmark."""

    sample: Sample
    said: Sequence[Mapping[str, Any]]


def run(module: str, *args: str, env: Mapping[str, str]) -> Finished:
    """Run `python -m module args` from start to exit.

    Raises:
        ChildFailedError: its exit code is not 0.
    """
    with Child(module, *args, env=env) as child:
        said = child.rest()
    return Finished(child.sample, said)


class Child:
    """A process that runs a module, measured from its start to its exit; the context is its life.

    Args:
        module: what `python -m` would run.
        args: its arguments.
        env: its whole environment.

    Raises:
        ChildFailedError: on leaving the context, where its exit code is not 0.
    """

    def __init__(self, module: str, *args: str, env: Mapping[str, str]) -> None:
        self._args = (module, *args)
        self._env = env
        self._output: list[str] = []
        self.sample = Sample(0)

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")
        self._memory_file = Path(self._folder.name, "memory")
        self._start = time.perf_counter()
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and the benchmark's own arguments
            [sys.executable, "-m", "bench.child", *self._args],
            cwd=ROOT,
            env={**self._env, MEMORY_VARIABLE: str(self._memory_file)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # so that an interrupted benchmark leaves none of its children's children
        )
        self._memory = TreeMemory(self._process.pid)
        self._memory.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self.rest()
        self._process.wait()
        seconds = time.perf_counter() - self._start
        self._memory.__exit__(kind, error, trace)
        if self._process.stdout:
            self._process.stdout.close()
        own_mb = float(self._memory_file.read_text()) if self._memory_file.exists() else 0
        self._folder.cleanup()
        self.sample = Sample(seconds, own_mb, max(own_mb, self._memory.peak_mb))
        if self._process.returncode and kind is None:
            raise self._failure()

    def ask(self, line: str | None = None) -> Mapping[str, Any]:
        """Say a line to the process, and return the next thing that it says.

        Raises:
            ChildFailedError: it ended instead.
        """
        with suppress(BrokenPipeError):  # it has ended: it will not answer
            if line is not None and self._process.stdin:
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()
        answer = next(self._said(), None)
        if answer is None:
            raise self._failure()
        return answer

    def rest(self) -> Sequence[Mapping[str, Any]]:
        """Tell the process that there is no more, and return what it says up to its end."""
        with suppress(BrokenPipeError):
            if self._process.stdin:
                self._process.stdin.close()
        return list(self._said())

    def _said(self) -> Iterator[Mapping[str, Any]]:
        for line in self._process.stdout or ():
            if line.startswith(MARK):
                said: dict[str, Any] = json.loads(line.removeprefix(MARK))
                yield said
            else:
                self._output.append(line)

    def _failure(self) -> ChildFailedError:
        code = self._process.wait()
        shown = "".join(self._output[-_SHOWN_LINES:])
        return ChildFailedError(f"python -m {' '.join(self._args)} ended with exit code {code}:\n{shown}")


def environment(**variables: str | Path) -> dict[str, str]:
    """Return the environment of measured processes: this one's, with this interpreter's scripts first.

    Bytecode is written and read, as on any installed system, whatever the calling shell says.
    """
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", "")])
    env["PYTHONPATH"] = str(ROOT)
    env["DBT_SEND_ANONYMOUS_USAGE_STATS"] = "false"
    return {**env, **{name: str(value) for name, value in variables.items()}}
