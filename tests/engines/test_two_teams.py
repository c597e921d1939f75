"""Two dbt teams in one DuckLake: both build at the same time, the second reads the marts of the first."""

from __future__ import annotations

import random
import shutil
import socket
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest
from clones import Clone, cloned

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping, Sequence

    from tests.conftest import RunPostgres

pytestmark = [
    pytest.mark.slow("a workspace with a second dbt project, and sixty runs of both"),
    pytest.mark.timeout(3600),
    # Half an hour of two cores: `make nightly` runs it.
    pytest.mark.some_of("two teams", 0),
]

DAYS = ("2024-01-30", "2024-01-31", "2024-02-01")
RUNS_OF_A_HOST = 20
OF_SHOP = ("order_items", "orders", "customer_days")
OF_FINANCE = ("finance_store_days", "finance_totals")
TABLES = (*(f"main.{name}" for name in OF_SHOP), *(f"finance.{name}" for name in OF_FINANCE))

FILES = {
    "models/sources/shop.yml": """\
sources:
  - name: shop
    database: lake
    schema: main
    tables:
      - name: orders
        config: {meta: {dagster: {asset_key: [orders]}}}
        columns:
          - {name: store_id, data_type: varchar}
          - {name: ordered_at, data_type: timestamp}
          - {name: order_total_cents, data_type: bigint}
""",
    "models/marts/daily/finance_totals.yml": """\
models:
  - name: finance_totals
    columns:
      - {name: store_id, data_type: varchar}
      - {name: sold_on, data_type: date}
      - {name: revenue_cents, data_type: bigint}
""",
    "models/marts/daily/finance_totals.sql": """\
{{ config(event_time='sold_on') }}

select
    store_id,
    cast(ordered_at as date) as sold_on,
    cast(sum(order_total_cents) as bigint) as revenue_cents
from {{ source('shop', 'orders') }}
where {{ in_window('ordered_at') }}
group by store_id, cast(ordered_at as date)
""",
}


@pytest.fixture
def top() -> Iterator[Path]:
    """Return a folder with a short path, for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="hr-"))
    yield folder
    shutil.rmtree(folder)


def test_both_build_at_once_from_three_hosts(top: Path, run_postgres: RunPostgres) -> None:
    """Two hosts build days of the first team's marts, which meet, while a third one builds marts upon them."""
    clone = cloned(top / "workspace")
    clone.call("headrace", "new", "location", "finance", "--dbt")
    for name, text in FILES.items():
        (clone.root / "projects/finance/dbt" / name).write_text(text)
    clone.call("env", "-u", "UV_COMPILE_BYTECODE", "uv", "sync", "--locked", "--quiet", "--no-compile-bytecode")
    clone = Clone(clone.root, clone.root / ".venv/bin")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with run_postgres(top / "pg", port):
        target = {
            "HEADRACE_TARGET": "ducklake",
            "HEADRACE_DUCKLAKE_CATALOG": f"host={top}/pg port={port} dbname=postgres user=postgres",
            "HEADRACE_START": DAYS[0],
        }
        days = ("--from", DAYS[0], "--to", DAYS[-1], "--orders-per-day", "60")
        clone.call("headrace", "demo-data", "--out", clone.root / ".headrace/exports", *days)
        clone.call("headrace", "engine", "init", "ducklake", "--schema", "main", "--schema", "finance", **target)
        clone.call("headrace", "run", **target)
        assert clone.call("headrace", "contract", "check", **target) == "contracts hold: ingest, analytics, finance\n"
        before = _contents(clone, target)
        said = clone.call("headrace", "init", **target).splitlines()
        target |= dict(line.removeprefix("export ").split("=", 1) for line in said)
        hosts = [("analytics", OF_SHOP), ("analytics", OF_SHOP), ("finance", OF_FINANCE)]
        with ThreadPoolExecutor(len(hosts)) as pool:
            calls = [
                pool.submit(_build, clone, project, assets, {**target, "DAGSTER_HOME": str(_home(top, number))}, number)
                for number, (project, assets) in enumerate(hosts)
            ]
            done = [one for call in calls for one in call.result()]
        assert [one.stderr[-3000:] for one in done if one.returncode] == []
        assert len(done) == len(hosts) * RUNS_OF_A_HOST
        assert _contents(clone, target) == before


def _home(top: Path, number: int) -> Path:
    """Make a Dagster instance of its own: what stands for a host, whose pools the others do not see."""
    home = top / f"host{number}"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    return home


def _build(
    clone: Clone, project: str, assets: Sequence[str], environment: Mapping[str, str], seed: int
) -> Sequence[subprocess.CompletedProcess[str]]:
    """Build days in a random order, each in a run of its own."""
    chosen = random.Random(seed)  # noqa: S311 - no secret
    command = ("dg", "launch", "--assets", ",".join(assets), "--partition")
    return [
        clone.try_(*command, chosen.choice(DAYS), cwd=f"projects/{project}", **environment)
        for _ in range(RUNS_OF_A_HOST)
    ]


def _contents(clone: Clone, target: Mapping[str, str]) -> Mapping[str, Sequence[tuple[object, ...]]]:
    """Return the rows of the tables, of which none may be empty."""
    with duckdb.connect(config={"extension_directory": str(clone.root / ".headrace/duckdb_extensions")}) as connection:
        for extension in ("ducklake", "postgres_scanner"):
            connection.load_extension(extension)
        connection.execute(f"attach 'ducklake:postgres:{target['HEADRACE_DUCKLAKE_CATALOG']}' as lake (read_only)")
        found = {name: connection.execute(f"from lake.{name} order by all").fetchall() for name in TABLES}
    assert all(found.values())
    return found
