"""`headrace dbt ci` on a copy of this workspace: real dbt, and a production of six days in a DuckDB file."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from headrace.demo.export import write_demo_data

pytestmark = [
    pytest.mark.slow("a production of six days, and dbt's builds beside it for each change"),
    pytest.mark.timeout(600),
]

A_COMPARISON = pytest.mark.some_of("comparisons of dbt ci", 1)
ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
FIRST, LAST, END = date(2024, 1, 29), date(2024, 2, 3), "2024-02-04"
WINDOW = ("--from", "2024-02-02", "--to", "2024-02-03")
SUBTOTAL = "    subtotal as subtotal_cents,"


@dataclass(frozen=True)
class Workplace:
    """A repository with what this workspace is now, and a production of it.

    Args:
        root: the repository.
        folder: lake, production, its manifest, and the temporary files of the command.
    """

    root: Path
    folder: Path

    @property
    def production(self) -> Path:
        return self.folder / "warehouse.duckdb"

    @property
    def left_behind(self) -> list[Path]:
        return list((self.folder / "tmp").iterdir())

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "DAGSTER"))}
        return inherited | {
            "HEADRACE_DBT_PROJECT": str(self.root / "dbt"),
            "HEADRACE_START": FIRST.isoformat(),
            "HEADRACE_LAKE": str(self.folder / "lake"),
            "HEADRACE_WAREHOUSE": str(self.production),
            "TMPDIR": str(self.folder / "tmp"),
        }

    def git(self, *arguments: str) -> None:
        identity = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        command = ["git", *arguments]
        subprocess.run(command, check=True, cwd=self.root, env={**os.environ, **identity}, capture_output=True)

    def dbt(self, *arguments: str) -> None:
        target = ("--target-path", str(self.folder / "state"), "--log-path", str(self.folder / "state"))
        command = [BIN / "dbt", "--quiet", *arguments, *target]
        done = subprocess.run(
            command, check=False, cwd=self.root / "dbt", env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def command(self, *arguments: str) -> list[str]:
        state = ("--state", str(self.folder / "state"), "--base", "main")
        return [str(BIN / "headrace"), "dbt", "ci", *state, *arguments]

    def call(self, *arguments: str, returncode: int = 0) -> subprocess.CompletedProcess[str]:
        """Call the command, which leaves production as it is and nothing behind."""
        before = hashlib.sha256(self.production.read_bytes()).digest()
        done = subprocess.run(
            self.command(*arguments), check=False, cwd=self.root, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == returncode, done.stdout + done.stderr
        assert hashlib.sha256(self.production.read_bytes()).digest() == before
        assert not self.left_behind
        return done

    def report(self, *arguments: str, returncode: int = 0) -> Mapping[str, Any]:
        report: Mapping[str, Any] = json.loads(self.call("--format", "json", *arguments, returncode=returncode).stdout)
        return report

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.root / file
        text = path.read_text()
        assert old in text, f"{file} has changed: {old}"
        path.write_text(text.replace(old, new, 1))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    folder = tmp_path_factory.mktemp("dbt_ci").resolve()
    place = Workplace(folder / "workspace", folder)
    (folder / "tmp").mkdir()
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (place.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place.root / name)
    (place.root / "dbt/models/marts/lifetime/retired.sql").write_text(
        "{{ config(contract={'enforced': false}) }}\nselect * from {{ ref('stg_stores') }}\n"
    )
    place.git("init", "--quiet", "--initial-branch=main")
    place.git("add", "--all")
    place.git("commit", "--quiet", "--message=all")
    _load(folder)
    place.dbt(
        *("build", "--exclude-resource-type", "unit_test"),
        *("--vars", json.dumps({"min_date": "2024-01-01", "max_date": "2024-03-01"})),
        *("--event-time-start", FIRST.isoformat(), "--event-time-end", END),
    )
    return place


def _load(folder: Path) -> None:
    """Write demo exports, and the lake's files of them."""
    write_demo_data(folder / "exports", FIRST, LAST, 40, 11)
    with duckdb.connect() as connection:
        for export in (folder / "exports").rglob("*.csv"):
            parts = export.relative_to(folder / "exports").with_suffix("").parts
            there = folder / "lake" / "raw" / parts[0] / (f"day={parts[1]}" if parts[1:] else "")
            there.mkdir(parents=True, exist_ok=True)
            connection.execute(f"copy (from read_csv('{export}')) to '{there}/data.parquet'")


@pytest.fixture
def place(made: Workplace) -> Workplace:
    """Return the workplace as it was committed."""
    made.git("reset", "--quiet", "--hard", "main")
    made.git("clean", "--quiet", "--force", "-d")
    return made


@A_COMPARISON
def test_a_changed_mart_with_a_new_a_deleted_and_a_wider_model(place: Workplace) -> None:
    place.edit(
        "dbt/models/marts/daily/orders.sql",
        "coalesce(baskets.items, 0) as items",
        "coalesce(baskets.items, 0) + 1 as items",
    )
    place.edit("dbt/models/staging/stg_stores.sql", "    id as store_id,", "    id as store_id,\n    1 as floor,")
    (place.root / "dbt/models/marts/lifetime/retired.sql").unlink()
    (place.root / "dbt/models/marts/lifetime/opened.sql").write_text(
        "{{ config(contract={'enforced': false}) }}\nselect * from {{ ref('stg_stores') }}\n"
    )
    report = place.report("--from", "2024-02-02", "--to", "2024-02-03", returncode=1)
    # store_months is built by whole months.
    assert (report["start"], report["end"]) == ("2024-02-01", "2024-03-01")
    models = {model["name"]: model for model in report["models"]}
    assert {name: model["change"] for name, model in models.items()} == {
        **dict.fromkeys(("orders", "stg_stores"), "changed"),
        **dict.fromkeys(("customer_days", "customers", "locations", "store_hours", "store_months"), "unchanged"),
        "opened": "new",
        "retired": "deleted",
    }
    assert {name for name, model in models.items() if model["surprising"]} == {
        "customer_days",
        "store_hours",
        "store_months",
    }
    [(in_window,)] = _rows(place, "select count(*) from orders where ordered_at >= '2024-02-01'")
    orders = models["orders"]
    assert orders["window"]
    assert orders["rows_before"] == orders["rows_after"] == orders["rows"]["changed"] == in_window
    assert orders["rows"]["key"] == ["order_id"]
    assert orders["rows"]["columns"] == {"items": in_window}
    assert len(orders["rows"]["examples"]) == 5
    # All of history is read by what has no window, though CI built February alone.
    assert models["customers"]["rows_before"] == models["customers"]["rows_after"]
    assert not models["customers"]["differs"]
    assert models["stg_stores"]["columns"]["added"] == {"floor": "INTEGER"}
    assert models["opened"]["rows_after"] == models["retired"]["rows_before"] == 7
    # The unit tests of orders see the change; they run without the window.
    assert {failure["name"] for failure in report["failures"]} == {
        "an_order_at_midnight_belongs_to_the_day_that_begins",
        "an_order_counts_its_food_and_drinks",
    }
    assert orders["tests"]["failed"] == 2


@A_COMPARISON
def test_a_changed_view_and_a_changed_microbatch_model_above_the_limit(place: Workplace) -> None:
    place.edit("dbt/models/staging/stg_tweets.sql", "content,", "upper(content) as content,")
    place.edit("dbt/models/staging/stg_stores.sql", "    tax_rate", "    tax_rate * 2 as tax_rate")
    place.edit("dbt/models/marts/microbatch/customer_days.sql", "sum(order_total_cents)", "sum(order_total_cents + 1)")
    report = place.report("--days", "2", "--limit", "50")
    # The last days that production has.
    assert (report["start"], report["end"]) == ("2024-02-02", END)
    models = {model["name"]: model for model in report["models"]}
    assert set(models) == {"customer_days", "customers", "locations", "retired", "stg_stores", "stg_tweets"}
    assert models["locations"]["surprising"]
    assert models["locations"]["rows"]["columns"] == {"tax_rate": 7}
    assert models["customers"]["rows"]["one_in"] > 1
    assert not models["customers"]["differs"]
    days = models["customer_days"]
    [(in_window,)] = _rows(place, "select count(*) from customer_days where ordered_on >= '2024-02-02'")
    assert days["rows_after"] == in_window
    assert 0 < days["rows"]["changed"] <= in_window
    assert days["rows"]["key"] == ["customer_id", "ordered_on"]
    assert list(days["rows"]["columns"]) == ["revenue_cents"]


def test_a_description_builds_nothing(place: Workplace) -> None:
    place.edit("dbt/models/staging/staging.yml", "Customers under", "Patrons under")
    assert place.call("--format", "markdown").stdout == ("### How the models would change\n\nNo model changes.\n\n")


@pytest.mark.some_of("signals to dbt ci", 1)
@pytest.mark.parametrize(
    ("number", "moment"),
    [
        pytest.param(signal.SIGINT, "1 of ", id="while it builds"),
        pytest.param(signal.SIGTERM, "comparing dbt", id="before"),
    ],
)
def test_a_signal_leaves_nothing_behind(place: Workplace, number: signal.Signals, moment: str) -> None:
    place.edit("dbt/models/staging/stg_orders.sql", SUBTOTAL, "    subtotal + 1 as subtotal_cents,")
    before = place.production.read_bytes()
    command = subprocess.Popen(
        place.command(*WINDOW), cwd=place.root, env=place.environment, stderr=subprocess.PIPE, text=True
    )
    assert command.stderr is not None
    with command:
        assert any(line.startswith(moment) for line in command.stderr)
        assert place.left_behind
        command.send_signal(number)
        said = command.stderr.read()
    assert command.returncode == 128 + number
    assert "Traceback" not in said
    assert not place.left_behind
    assert place.production.read_bytes() == before
    assert not [
        process
        for process in Path("/proc").glob("[0-9]*/cmdline")
        if process.exists()
        and b"headrace-dbt-ci-" in process.read_bytes()
        and str(place.folder).encode() in process.read_bytes()
    ]


def test_production_that_is_being_written_is_waited_for(place: Workplace) -> None:
    writer = (
        "import duckdb, sys; connection = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read(1)"
    )
    command = [sys.executable, "-c", writer, str(place.production)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        done = place.call("--wait", "1", returncode=2)
        process.communicate("x")
    waits, error = done.stderr.splitlines()
    assert "another process is writing it: waiting up to 1 s" in waits
    assert error.startswith(f"Error: {place.production}: another process has been writing it")


def test_a_wrong_call_is_one_line(place: Workplace, tmp_path: Path) -> None:
    assert place.call("--state", str(tmp_path), returncode=2).stderr == (
        f"Error: --state {tmp_path}: there is no manifest.json: copy the one with which production was last built\n"
    )
    missing = tmp_path / "none.duckdb"
    assert place.call("--warehouse", str(missing), returncode=2).stderr == (
        f"Error: {missing}: no production file: give it with --warehouse, or set HEADRACE_WAREHOUSE\n"
    )


def test_the_project_is_the_one_that_the_variable_names(place: Workplace, tmp_path: Path) -> None:
    for project, said in (
        (tmp_path, f"HEADRACE_DBT_PROJECT: {tmp_path} is not in {place.root}, whose revisions are compared: "),
        ("bench/project", "one dbt project of a code location is needed in bench/project, found none: "),
    ):
        moved = {**place.environment, "HEADRACE_DBT_PROJECT": str(project)}
        done = subprocess.run(place.command(), check=False, cwd=place.root, env=moved, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1


def _rows(place: Workplace, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(place.production, read_only=True) as connection:
        return connection.execute(sql).fetchall()
