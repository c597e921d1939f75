"""A code location whose assets fail when they are told to, and a web server that takes its alerts."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import dagster as dg
import pytest

from headrace_alerts import alert_definitions

days = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-02-01")


class Trouble:
    """What is to fail, and how often it ran."""

    def __init__(self) -> None:
        self.errors: dict[str, str] = {}
        self.failing: dict[str, dg.AssetCheckSeverity] = {}

    def raise_for(self, name: str) -> None:
        if name in self.errors:
            raise dg.Failure(self.errors[name])

    def result(self, name: str) -> dg.AssetCheckResult:
        severity = self.failing.get(name)
        return dg.AssetCheckResult(
            passed=severity is None,
            severity=severity or dg.AssetCheckSeverity.ERROR,
            description="two rows\nare the same" if severity else None,
        )


class Inbox:
    """A local web server that takes Apprise's JSON messages, by the path of the URL.

    Args:
        server: the server.
    """

    def __init__(self) -> None:
        self.messages: list[tuple[str, str, str]] = []
        self.refused: set[str] = set()
        self.tries: list[str] = []
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                path = self.path.strip("/")
                inbox.tries.append(path)
                if path not in inbox.refused:
                    inbox.messages.append((path, content["title"], content["message"]))
                self.send_response(500 if path in inbox.refused else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def url(self, path: str) -> str:
        return f"json://127.0.0.1:{self.server.server_port}/{path}"

    def take(self) -> Sequence[tuple[str, str, str]]:
        """Return what has come since the last call: (path, title, text)."""
        taken, self.messages = sorted(self.messages), []
        return taken


def definitions(trouble: Trouble) -> dg.Definitions:
    @dg.multi_asset(
        specs=[dg.AssetSpec("orders", owners=["team:a"], partitions_def=days)],
        check_specs=[dg.AssetCheckSpec("unique", asset="orders", blocking=True)],
    )
    def orders() -> Iterator[dg.MaterializeResult[None]]:
        trouble.raise_for("orders")
        yield dg.MaterializeResult(asset_key="orders", check_results=[trouble.result("unique")])

    @dg.multi_asset(
        specs=[dg.AssetSpec("items", owners=["team:a"]), dg.AssetSpec("tweets", owners=["b@example.com"])],
        check_specs=[dg.AssetCheckSpec("counted", asset="items", blocking=True)],
    )
    def events() -> Iterator[dg.MaterializeResult[None]]:
        trouble.raise_for("items")
        yield dg.MaterializeResult(asset_key="items", check_results=[trouble.result("counted")])
        trouble.raise_for("tweets")
        yield dg.MaterializeResult(asset_key="tweets")

    @dg.asset
    def orphan() -> None:
        trouble.raise_for("orphan")

    @dg.asset_check(asset="tweets", name="polite")
    def polite() -> dg.AssetCheckResult:
        return trouble.result("polite")

    @dg.asset_check(asset="items", name="sold")
    def sold() -> dg.AssetCheckResult:
        return trouble.result("sold")

    @dg.op
    def clean() -> None:
        trouble.raise_for("clean")

    @dg.job
    def cleaning() -> None:
        clean()

    return dg.Definitions(assets=[orders, events, orphan], asset_checks=[polite, sold], jobs=[cleaning])


@dataclass
class Location:
    """A code location with its alerts.

    Args:
        definitions: the location's.
        trouble: what is to fail.
        instance: the history.
        inbox: what was told.
        cursors: of the sensors, as the daemon keeps them.
    """

    definitions: dg.Definitions
    trouble: Trouble
    instance: dg.DagsterInstance
    inbox: Inbox
    cursors: dict[str, str | None] = field(default_factory=dict)

    def run(
        self,
        *assets: str,
        checks: Sequence[str] = (),
        partition: str | None = None,
        tags: Mapping[str, str] | None = None,
        job: str | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Run assets with their checks, or only the named checks, or a job."""
        keys = [key for key in self.definitions.resolve_asset_graph().asset_check_keys if key.name in checks]
        selection = dg.AssetSelection.checks(*keys) if checks else dg.AssetSelection.assets(*assets)
        if job is not None:
            return self.definitions.resolve_job_def(job).execute_in_process(
                instance=self.instance, raise_on_error=False, tags=tags
            )
        unresolved = dg.define_asset_job("some", selection=selection)
        defs = dg.Definitions.merge(self.definitions, dg.Definitions(jobs=[unresolved]))
        return defs.resolve_job_def("some").execute_in_process(
            instance=self.instance, raise_on_error=False, partition_key=partition, tags=tags
        )

    def tick(self, name: str, *, warnings: bool = False) -> str:
        """Tick a sensor, as the daemon does: a tick that fails forgets its cursor. Return what it says."""
        defs = dg.Definitions.merge(self.definitions, alert_definitions(warnings=warnings))
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursors.get(name), definitions=defs)
        data = defs.resolve_sensor_def(name).evaluate_tick(context)
        self.cursors[name] = data.cursor
        assert not data.run_requests
        return data.skip_message or ""

    def tick_runs(self) -> str:
        return self.tick("alert_run_failures")

    def tick_checks(self, *, warnings: bool = False) -> str:
        return self.tick("alert_check_failures", warnings=warnings)


OpenLocation = Callable[..., Location]


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    inbox = Inbox()
    yield inbox
    inbox.server.shutdown()
    inbox.server.server_close()


@pytest.fixture
def location(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Location]:
    """A location that has ticked once, with destinations for all."""
    destinations = {"team:a": [inbox.url("a")], "b@example.com": [inbox.url("b")], "default": [inbox.url("default")]}
    monkeypatch.setenv("HEADRACE_ALERTS", json.dumps(destinations))
    monkeypatch.delenv("HEADRACE_URL", raising=False)
    with dg.DagsterInstance.ephemeral() as instance:
        trouble = Trouble()
        opened = Location(definitions(trouble), trouble, instance, inbox)
        opened.tick_runs()
        opened.tick_checks()
        yield opened
