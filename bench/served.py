"""A Dagster that serves definitions, and launches the partitions that are read from its input, one a line.

    python -m bench.served dev MODULE
    python -m bench.served deployed MODULE

The first is `dagster dev`, the second a deployed code server of Headrace's and a webserver. Runs are launched by
GraphQL, without a queue in which they would wait for their turn.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import requests
import yaml

from bench.child import say
from bench.generate import DAILY

_PATIENCE_SECONDS = 300
_LOOK_SECONDS = 0.05
_LAUNCH = """
mutation ($assets: [AssetKeyInput!], $location: String!, $day: String!) { launchRun(executionParams: {
  selector: {repositoryLocationName: $location, repositoryName: "__repository__", jobName: "__ASSET_JOB",
             assetSelection: $assets, assetCheckSelection: null},
  runConfigData: {}, executionMetadata: {tags: [{key: "dagster/partition", value: $day}]} }) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""


def main(kind: str, module: str) -> None:
    """Launch each day of standard input, and say how many seconds it took to its end and whether it was a fork."""
    with dg.DagsterInstance.get() as instance, _served(kind, module) as url:
        say({"ready": True})
        for line in sys.stdin:
            began = time.time()
            answer = _ask(url, _LAUNCH, assets=[{"path": [name]} for name in DAILY], location=module, day=line.strip())
            run_id = answer["launchRun"]["run"]["runId"]
            while not (record := instance.get_run_record_by_id(run_id)) or record.end_time is None:
                time.sleep(_LOOK_SECONDS)
            if not record.dagster_run.is_success:
                raise RuntimeError(f"the run of {line.strip()} failed")
            events = instance.all_logs(run_id)
            forked = any("Forked a process" in (event.message or "") for event in events)
            say({"seconds": record.end_time - began, "forked": forked})


@contextmanager
def _served(kind: str, module: str) -> Iterator[str]:
    port = _free_port()
    at = ["--host", "127.0.0.1", "--port", str(port)]
    commands = Path(sys.executable).parent
    if kind == "dev":
        started = [_start([str(commands / "dagster"), "dev", "-m", module, *at])]
    else:
        # Here alone: stock's processes have none of it.
        from headrace.deployed import warm_location  # noqa: PLC0415

        home = Path(os.environ["DAGSTER_HOME"])
        arguments = ["--module-name", module, "--location-name", module, "--socket", str(home / "sock")]
        server = _start([sys.executable, warm_location.__file__, "--serve", str(home / "runs"), *arguments])
        entry = {"grpc_server": {"socket": str(home / "sock"), "location_name": module}}
        (home / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [entry]}))
        _wait_until((home / "sock").exists)
        started = [server, _start([str(commands / "dagster-webserver"), "-w", str(home / "workspace.yaml"), *at])]
    url = f"http://127.0.0.1:{port}/graphql"
    try:
        _wait_until(lambda: _serves(url, module))
        yield url
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGINT if kind == "dev" else signal.SIGTERM)
            process.wait()


def _start(command: list[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command)  # noqa: S603 - Dagster's commands, of this environment


def _serves(url: str, module: str) -> bool:
    try:
        entries = _ask(url, "{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus } } } }")
    except (requests.RequestException, KeyError):
        return False
    return {"name": module, "loadStatus": "LOADED"} in entries["workspaceOrError"]["locationEntries"]


def _ask(url: str, query: str, **variables: Any) -> dict[str, Any]:
    answer = requests.post(url, json={"query": query, "variables": variables}, timeout=_PATIENCE_SECONDS)
    found: dict[str, Any] = answer.json()["data"]
    return found


def _wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing is served within {_PATIENCE_SECONDS} s")
        time.sleep(_LOOK_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
