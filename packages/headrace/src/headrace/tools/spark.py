"""Spark: the processes of a small cluster on this machine, for development and tests, and what tables a server has.

A master, workers and a Thrift server out of PyPI's `pyspark`, by the machine's Java. Spark's own scripts start one of
each on a host, and find them by files in /tmp: https://spark.apache.org/docs/latest/spark-standalone.html
"""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from headrace.cli.user_errors import UserError
from headrace.workspace import Workspace

HOST, PORT = "HEADRACE_SPARK_HOST", "HEADRACE_SPARK_PORT"
_LOOPBACK = "127.0.0.1"
_THRIFT_SERVER = "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2"
_STARTS_WITHIN_SECONDS = 180
_ENDS_WITHIN_SECONDS = 20


@dataclass(frozen=True)
class SparkServers:
    """A cluster on loopback whose tables and logs are in a folder.

    Args:
        folder: the folder.
        port: the port of the Thrift server.
    """

    folder: Path
    port: int

    @classmethod
    def of(cls, workspace: Workspace, environment: Mapping[str, str] = os.environ) -> "SparkServers":
        """Return the cluster of a workspace.

        Raises:
            UserError: the environment names another machine's server, or no port.
        """
        host, port = _address(environment)
        if host not in {"localhost", _LOOPBACK}:
            raise UserError(f"{HOST}: {host} is not this machine: unset it, or start Spark there")
        return cls(workspace.dagster_home.parent / "spark", port)

    def up(self, *, workers: int, cores: int, memory_mb: int) -> None:
        """Start the processes that are not there, and return when the server answers.

        Args:
            workers: how many workers.
            cores: how many cores each may use.
            memory_mb: how much memory each may use, and the server.

        Raises:
            UserError: Java or pyspark is missing, the port is taken, or a process ended; nothing is left running.
        """
        if self.running():
            return
        home, java = _spark_home(), _java()
        if _answers(self.port):
            raise UserError(f"port {self.port} of {_LOOPBACK} is taken: set {PORT} to a free one")
        self.folder.mkdir(parents=True, exist_ok=True)
        master = f"spark://{_LOOPBACK}:{_free_port()}"
        memory = f"{memory_mb}m"
        options = ["--host", _LOOPBACK, "--webui-port", "0"]
        commands = {"master": [*_of(home, "master.Master"), *options, "--port", master.rpartition(":")[2]]}
        for number in range(1, workers + 1):
            files = ["--work-dir", str(self.folder / "work")]
            size = ["--cores", str(cores), "--memory", memory]
            commands[f"worker-{number}"] = [*_of(home, "worker.Worker"), *options, *size, *files, master]
        settings = {
            "spark.driver.host": _LOOPBACK,
            "spark.driver.bindAddress": _LOOPBACK,
            "spark.driver.memory": memory,
            "spark.executor.memory": memory,
            "spark.sql.session.timeZone": "UTC",
            "spark.ui.enabled": "false",
            "spark.sql.shuffle.partitions": str(2 * workers * cores),
            "spark.sql.warehouse.dir": str(self.folder / "warehouse"),
            "spark.hadoop.javax.jdo.option.ConnectionURL": (
                f"jdbc:derby:;databaseName={self.folder / 'metastore'};create=true"
            ),
            "spark.driver.extraJavaOptions": f"-Dderby.system.home={self.folder}",
        }
        commands["thrift"] = [
            str(home / "bin" / "spark-submit"),
            *("--class", _THRIFT_SERVER, "--master", master),
            *(word for name, value in settings.items() for word in ("--conf", f"{name}={value}")),
            "spark-internal",
            *("--hiveconf", f"hive.server2.thrift.port={self.port}"),
            *("--hiveconf", f"hive.server2.thrift.bind.host={_LOOPBACK}"),
        ]
        environment = {**os.environ, "SPARK_HOME": str(home), "JAVA_HOME": str(java), "SPARK_LOCAL_IP": _LOOPBACK}
        try:
            for name, command in commands.items():
                self._start(name, command, environment)
            self._wait()
        except BaseException:
            self.down()
            raise

    def down(self) -> Sequence[str]:
        """End the processes, the server first, and return the names of those that were running."""
        running = self.running()
        for process in reversed(list(running.values())):
            for child in _with_children(process):
                with suppress(psutil.Error):
                    child.terminate()
            _, left = psutil.wait_procs([process], timeout=_ENDS_WITHIN_SECONDS)
            for each in left:
                with suppress(psutil.Error):
                    each.kill()
        self._state.unlink(missing_ok=True)
        return list(running)

    def running(self) -> Mapping[str, psutil.Process]:
        """Return the processes that run, by their names, in the order in which they were started."""
        try:
            known = json.loads(self._state.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        found = {}
        for name, (pid, started) in known.items():
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                # Another process may have the number of one that is gone.
                if process.create_time() == started and process.status() != psutil.STATUS_ZOMBIE:
                    found[name] = process
        return found

    @property
    def _state(self) -> Path:
        return self.folder / "processes.json"

    def _start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            started = subprocess.Popen(  # noqa: S603 - the command is made above
                command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        known = {each: (process.pid, process.create_time()) for each, process in self.running().items()}
        known[name] = (started.pid, psutil.Process(started.pid).create_time())
        written = self._state.with_suffix(".tmp")
        written.write_text(json.dumps(known), encoding="utf-8")
        written.replace(self._state)

    def _wait(self) -> None:
        expected = set(json.loads(self._state.read_text(encoding="utf-8")))
        until = time.monotonic() + _STARTS_WITHIN_SECONDS
        while not _answers(self.port):
            if ended := expected - set(self.running()):
                name = sorted(ended)[0]
                raise UserError(f"{name} of Spark ended: {self._last_line(name)}; {self.folder / name}.log has more")
            if time.monotonic() > until:
                raise UserError(f"Spark does not answer on port {self.port}: {self.folder}/thrift.log says why")
            time.sleep(0.2)

    def _last_line(self, name: str) -> str:
        lines = (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "without a word"


def spark_tables(environment: Mapping[str, str] = os.environ) -> frozenset[str]:
    """Return the tables and views of the server that the environment names, as `schema.name` in lower case.

    Raises:
        UserError: it does not answer, or the extra `analytics[spark]` is missing.
    """
    host, port = _address(environment)
    try:
        from pyhive import hive  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra
    except ImportError:
        raise UserError("the target spark needs packages that are missing: install analytics[spark]") from None
    try:
        with closing(hive.connect(host, port)) as connection, closing(connection.cursor()) as cursor:
            cursor.execute("show schemas")
            schemas = [schema for (schema,) in cursor.fetchall()]
            found = set()
            for schema in schemas:
                cursor.execute(f"show tables in `{schema}`")
                found |= {f"{schema}.{name}".lower() for _, name, *_ in cursor.fetchall()}
            return frozenset(found)
    except Exception as error:  # of sockets, Thrift and PyHive, without a class in common
        said = str(error).strip().partition("\n")[0]
        raise UserError(f"spark, the target: {said} ({HOST}, {PORT} say where it is)") from None


def _address(environment: Mapping[str, str]) -> tuple[str, int]:
    port = environment.get(PORT) or "10000"
    if not port.isdecimal():
        raise UserError(f"{PORT}: {port!r} is no port")
    return environment.get(HOST) or "localhost", int(port)


def _spark_home() -> Path:
    found = importlib.util.find_spec("pyspark")
    if found is None or found.origin is None:
        raise UserError("pyspark is not installed: `uv sync --group scale`")
    return Path(found.origin).parent


def _java() -> Path:
    """Return the folder of Java, of `JAVA_HOME` or of the command `java`."""
    if home := os.environ.get("JAVA_HOME"):
        if not (Path(home) / "bin" / "java").is_file():
            raise UserError(f"JAVA_HOME: {home} has no bin/java")
        return Path(home)
    java = shutil.which("java")
    if java is None:
        raise UserError("java is not installed, which Spark needs: install Java 17 or 21, or set JAVA_HOME")
    return Path(java).resolve().parents[1]


def _of(home: Path, name: str) -> Sequence[str]:
    return [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{name}"]


def _with_children(process: psutil.Process) -> Iterator[psutil.Process]:
    with suppress(psutil.Error):
        yield from process.children(recursive=True)
    yield process


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((_LOOPBACK, port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        return int(probe.getsockname()[1])
