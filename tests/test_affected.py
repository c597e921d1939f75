"""`headrace affected` on this workspace: dbt nodes and assets of both locations, and how long it takes to say them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headrace.tools.uv_lock import Lock

pytestmark = [
    pytest.mark.slow("parses the dbt project at two revisions, and loads both locations, for each change"),
    pytest.mark.timeout(600),
]

A_CHANGE = pytest.mark.some_of("changes that affect something", 1)

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent

MACROS = "packages/dbt_common/src/dagster_dbt_common/macros"
SOURCES = "dbt/models/sources/raw.yml"
UNCHECKED = "{{ config(contract={'enforced': false}) }}"
SUBTOTAL = "{name: subtotal, data_type: bigint"

INCREMENTAL = {"order_items", "orders", "store_hours", "store_months"}
BELOW_ORDERS = {"customer_days", "customers", "locations", "orders", "products", "store_hours", "store_months"}


@dataclass(frozen=True)
class Clone:
    """A repository of its own with what this workspace is now, in one commit.

    Args:
        root: its folder.
        production: the folder of a manifest of it, made where the lake and the warehouse are elsewhere.
    """

    root: Path
    production: Path

    def git(self, *arguments: str) -> str:
        identity = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        return subprocess.run(
            ["git", *arguments],  # noqa: S607 - git of the machine
            check=True,
            cwd=self.root,
            env={**os.environ, **identity},
            capture_output=True,
            text=True,
        ).stdout.strip()

    def call(self, *arguments: str) -> Mapping[str, Any]:
        """Call `headrace affected` with the members of the clone."""
        members = [str(path) for path in (*self.root.glob("projects/*/src"), *self.root.glob("packages/*/src"))]
        result = subprocess.run(
            [BIN / "headrace", "affected", "--base", "main", "--format", "json", *arguments],
            check=False,
            cwd=self.root,
            env={**inherited(), "PYTHONPATH": os.pathsep.join(members), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        answer: Mapping[str, Any] = json.loads(result.stdout)
        return answer


def inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "DAGSTER"))}


def built(answer: Mapping[str, Any]) -> set[str]:
    """Return the names of the models, seeds and snapshots that are affected."""
    kinds = ("model", "seed", "snapshot")
    return {unique_id.split(".")[2] for unique_id in answer["dbt"] if unique_id.partition(".")[0] in kinds}


@pytest.fixture(scope="module")
def cloned(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    folder = tmp_path_factory.mktemp("affected").resolve()
    clone = Clone(folder / "workspace", folder / "production")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (clone.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone.root / name)
    # What the demo has none of: an ephemeral model, a macro of the project's own, a seed above 1 MiB.
    ephemeral = "{{ config(materialized='ephemeral') }}"
    for file, text in {
        "models/intermediate/int_paid.sql": f"{ephemeral}\nselect order_id from {{{{ ref('orders') }}}}\n",
        "models/marts/lifetime/paid.sql": f"{UNCHECKED}\nselect * from {{{{ ref('int_paid') }}}}\n",
        "macros/rounded.sql": "{% macro rounded(rate) %}round({{ rate }}, 2){% endmacro %}\n",
        "seeds/rates.csv": "id,rate\n" + "".join(f"{row},0.{row:06}\n" for row in range(80_000)),
        "models/marts/lifetime/rated.sql": f"{UNCHECKED}\nselect id from {{{{ ref('rates') }}}}\n",
        "models/marts/lifetime/prices.sql": f"{UNCHECKED}\nselect {{{{ rounded('0.125') }}}} as price\n",
    }.items():
        (clone.root / "dbt" / file).parent.mkdir(exist_ok=True)
        (clone.root / "dbt" / file).write_text(text)
    clone.git("init", "--quiet", "--initial-branch=main")
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "--message=all")
    subprocess.run(
        [
            *(BIN / "dbt", "--quiet", "parse", "--vars", '{min_date: "2024-01-01", max_date: "2024-01-02"}'),
            *("--target-path", clone.production, "--log-path", clone.production),
        ],
        check=True,
        cwd=clone.root / "dbt",
        env={
            **inherited(),
            "HEADRACE_LAKE": "s3://elsewhere/lake",
            "HEADRACE_WAREHOUSE": str(folder / "other.duckdb"),
            "HEADRACE_START": "2023-05-05",
        },
    )
    return clone


@pytest.fixture
def clone(cloned: Clone) -> Clone:
    """Return the clone as it was committed."""
    cloned.git("reset", "--quiet", "--hard", "main")
    cloned.git("clean", "--quiet", "--force", "-d")
    return cloned


def edit(clone: Clone, file: str, old: str, new: str) -> None:
    path = clone.root / file
    text = path.read_text()
    assert old in text, f"{file} has changed: {old}"
    path.write_text(text.replace(old, new, 1))


def test_the_closures_of_this_workspace_are_those_of_uv() -> None:
    lock = Lock((ROOT / "uv.lock").read_text())
    for member, folder in lock.members.items():
        closure = lock.closure(member, tested=False)
        found = {
            f"{name}=={version}"
            for name, versions in closure.versions.items()
            for version in versions.split(", ")
            if name not in lock.members
        }
        found |= {f"-e ./{lock.members[name]}" for name in closure.members if lock.members[name] != "."}
        options = ["--frozen", "--quiet", "--no-hashes", "--no-annotate", "--no-header", "--no-default-groups"]
        command = [BIN / "uv", "export", *options, "--all-extras", "--package", member]
        output = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout
        assert {line.partition(" ;")[0] for line in output.splitlines()} == found, folder


@A_CHANGE
def test_an_ephemeral_model_against_the_base_in_a_worktree(clone: Clone) -> None:
    edit(clone, "dbt/models/intermediate/int_paid.sql", "order_id", "order_id, customer_id")
    answer = clone.call()
    assert answer["members"] == ["analytics", "headrace-workspace"]
    assert answer["deploy"] == ["analytics"]
    assert answer["contracts"] is True
    assert answer["dbt"] == ["model.jaffle_shop.int_paid", "model.jaffle_shop.paid"]
    assert answer["assets"] == ["paid"]
    assert "\n" not in clone.git("worktree", "list")
    assert clone.git("status", "--short") == "M dbt/models/intermediate/int_paid.sql"


@A_CHANGE
def test_what_production_has_otherwise_is_no_change(clone: Clone) -> None:
    """A description, a comment in YAML, and a manifest of another lake, warehouse, first day and window."""
    edit(clone, SOURCES, "description: Sum of the prices", "description: The sum of the prices")
    edit(clone, "dbt/models/marts/daily/daily.yml", "description: ", "description: So, ")
    edit(clone, "dbt/profiles.yml", "threads: 4", "threads: 2")
    answer = clone.call("--for", "dbt", "--state", str(clone.production))
    assert answer["members"] == ["analytics", "headrace-workspace"]
    assert answer["dbt"] == answer["assets"] == []


@A_CHANGE
def test_a_model_reaches_its_children_and_the_exposure(clone: Clone) -> None:
    edit(clone, "dbt/models/marts/daily/orders.sql", "count(*) as items", "count(order_id) as items")
    edit(clone, "dbt/models/marts/lifetime/products.sql", "select", "-- what is sold\nselect  ")
    answer = clone.call("--for", "dbt", "--state", str(clone.production))
    assert built(answer) == (BELOW_ORDERS - {"products"}) | {"int_paid", "paid"}
    assert "exposure.jaffle_shop.weekly_report" in answer["dbt"]
    assert set(answer["assets"]) == (BELOW_ORDERS - {"products"}) | {"paid"}


@A_CHANGE
def test_a_column_of_a_source_reaches_what_reads_the_table(clone: Clone) -> None:
    edit(clone, SOURCES, SUBTOTAL, SUBTOTAL.replace("bigint", "double"))
    answer = clone.call("--state", str(clone.production))
    assert "source.jaffle_shop.raw.orders" in answer["dbt"]
    assert "source.jaffle_shop.raw.items" not in answer["dbt"]
    assert built(answer) == BELOW_ORDERS | {"stg_orders", "order_items", "int_paid", "paid"}
    # The table is made by another location, which did not change.
    assert set(answer["assets"]) == BELOW_ORDERS | {"stg_orders", "order_items", "paid"}


@A_CHANGE
def test_a_strategy_that_dbt_calls_by_its_name_reaches_its_models(clone: Clone) -> None:
    edit(clone, f"{MACROS}/delete_window_insert.sql", "delete from", "delete  from")
    answer = clone.call("--state", str(clone.production))
    assert answer["members"] == ["analytics", "dagster-dbt-common", "headrace-workspace"]
    assert built(answer) == INCREMENTAL | BELOW_ORDERS | {"int_paid", "paid"}
    # It is a macro: the Python code of the location is what it was.
    assert "stg_orders" not in answer["assets"]
    assert "product_types" not in answer["assets"]


@A_CHANGE
def test_seeds_and_a_macro_reach_what_reads_them(clone: Clone) -> None:
    """dbt compares a seed above 1 MiB by its path alone. The description beside them is no change of a node."""
    seed = clone.root / "dbt/seeds/product_types.csv"
    seed.write_text(seed.read_text().replace("true", "false", 1))
    assert (clone.root / "dbt/seeds/rates.csv").stat().st_size > 2**20
    edit(clone, "dbt/seeds/rates.csv", "0.000001", "0.000002")
    edit(clone, "dbt/macros/rounded.sql", ", 2", ", 1")
    edit(clone, "dbt/models/staging/staging.yml", "description: ", "description: So, ")
    answer = clone.call("--for", "dbt", "--state", str(clone.production))
    assert {"product_types", "int_product_catalog", "order_items", "rates", "rated", "prices"} <= built(answer)
    assert not {name for name in built(answer) if name.startswith("stg_")}
    assert {"rated", "prices", "rates"} <= set(answer["assets"])


@A_CHANGE
def test_code_of_one_location_reaches_the_assets_of_another(clone: Clone) -> None:
    edit(clone, "projects/ingest/src/ingest/lake.py", '"""', '"""So: ')
    answer = clone.call()
    assert answer["members"] == ["headrace-workspace", "ingest"]
    assert answer["deploy"] == ["ingest"]
    assert answer["dbt"] == []
    assert {"raw/orders", "stg_orders", "orders", "customers"} <= set(answer["assets"])
    assert "product_types" not in answer["assets"]


@A_CHANGE
def test_another_revision_is_loaded_from_a_worktree(clone: Clone) -> None:
    clone.git("switch", "--quiet", "--create", "change")
    table = "projects/ingest/src/ingest/defs/extra.py"
    (clone.root / table).write_text("import dagster as dg\n\n\n@dg.asset\ndef extra(): ...\n")
    edit(clone, "dbt/models/marts/lifetime/paid.sql", "select *", "select order_id")
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "--message=change")
    clone.git("switch", "--quiet", "main")
    answer = clone.call("--head", "change")
    clone.git("branch", "--quiet", "-D", "change")
    assert answer["dbt"] == ["model.jaffle_shop.paid"]
    assert {"extra", "paid", "raw/orders"} <= set(answer["assets"])
    assert "\n" not in clone.git("worktree", "list")
    assert clone.git("status", "--short") == ""


@A_CHANGE
def test_a_project_that_dbt_can_not_parse_is_told_in_one_line(clone: Clone) -> None:
    (clone.root / "dbt/models/marts/lifetime/paid.sql").write_text("select * from {{ ref('nothing') }}\n")
    result = subprocess.run(
        [BIN / "headrace", "affected", "--base", "main", "--for", "dbt"],
        check=False,
        cwd=clone.root,
        env=inherited(),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "dbt ls failed" in result.stderr or "does not load" in result.stderr
    assert "nothing" in result.stderr
    assert "\n" not in clone.git("worktree", "list")
