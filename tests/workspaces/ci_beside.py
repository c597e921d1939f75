"""`headrace dbt ci` where production is a database of many writers: it builds in schemas of its own beside it."""

from __future__ import annotations

import json
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clones import Clone, cloned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tests.conftest import Shop

STORES = "dbt/models/staging/stg_stores.sql"
EDITS = {
    STORES: ("    tax_rate", "    tax_rate * 2 as tax_rate"),
    "dbt/models/marts/microbatch/customer_days.sql": ("sum(order_total_cents)", "sum(order_total_cents + 1)"),
}


def _variables(shop: Shop) -> Mapping[str, str]:
    kept = {name: value for name, value in shop.environment.items() if name.startswith(("HEADRACE_", "PG"))}
    del kept["HEADRACE_DBT_PROJECT"]
    return {**kept, "HEADRACE_LAKE": str(shop.lake), "HEADRACE_WAREHOUSE": str(shop.warehouse)}


@dataclass(frozen=True)
class Beside:
    """A repository with a change, and a production that it is compared with.

    Args:
        clone: the repository.
        shop: production.
        state: the folder of production's manifest.
        schemas: returns the schemas that production's database has.
        contents: returns what production has.
    """

    clone: Clone
    shop: Shop
    state: Path
    schemas: Callable[[], Sequence[str]]
    contents: Callable[[], object]

    @classmethod
    def of(
        cls, shop: Shop, folder: Path, schemas: Callable[[], Sequence[str]], contents: Callable[[], object]
    ) -> Beside:
        """Clone the workspace, keep its manifest, and edit two models."""
        clone = cloned(folder / "workspace")
        state = folder / "state"
        where = ("--target-path", state, "--log-path", state)
        clone.call("dbt", "--quiet", "parse", *where, cwd="dbt", **_variables(shop))
        for file, (old, new) in EDITS.items():
            text = (clone.root / file).read_text()
            assert old in text, f"{file} has changed: {old}"
            (clone.root / file).write_text(text.replace(old, new, 1))
        return cls(clone, shop, state, schemas, contents)

    @property
    def variables(self) -> Mapping[str, str]:
        """Return what names production."""
        return _variables(self.shop)

    def command(self, *arguments: str) -> list[str]:
        """Return the command."""
        return [str(self.clone.bin / "headrace"), "dbt", "ci", "--state", str(self.state), "--base", "main", *arguments]

    def assert_is_compared(self) -> None:
        """Build and compare the change: production and its schemas are as before, and what differs is told."""
        before, schemas = self.contents(), self.schemas()
        done = self.clone.try_(*self.command("--days", "1", "--format", "json"), **self.variables)
        assert done.returncode == 0, done.stdout + done.stderr
        models: Mapping[str, Any] = {model["name"]: model for model in json.loads(done.stdout)["models"]}
        assert set(models) == {"customer_days", "locations", "stg_stores"}, set(models)
        assert models["locations"]["surprising"]
        assert models["locations"]["rows"]["columns"] == {"tax_rate": models["locations"]["rows_before"]}
        days = models["customer_days"]
        assert (days["window"], days["rows"]["key"]) == (True, ["customer_id", "ordered_on"])
        assert days["rows"]["columns"] == {"revenue_cents": days["rows_after"]}
        assert days["rows_before"] == days["rows_after"] > 0
        assert self.schemas() == schemas
        assert self.contents() == before

    def assert_a_signal_leaves_nothing(self) -> None:
        """End it while it builds."""
        before, schemas = self.contents(), self.schemas()
        environment = self.clone.environment(**self.variables)
        process = subprocess.Popen(
            self.command(),
            cwd=self.clone.root,
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        with process:
            assert process.stderr
            assert any(line.startswith("1 of ") for line in process.stderr)
            assert self.schemas() != schemas
            process.send_signal(signal.SIGTERM)
            assert "Traceback" not in process.stderr.read()
        assert process.returncode == 128 + signal.SIGTERM
        assert self.schemas() == schemas
        assert self.contents() == before

    def assert_production_s_tables_are_not_taken(self) -> None:
        """Refuse a project that would build its tables where production has them."""
        macro = self.clone.root / "dbt/macros/generate_schema_name.sql"
        macro.parent.mkdir(exist_ok=True)
        macro.write_text("{% macro generate_schema_name(custom_schema_name, node) %}main{% endmacro %}")
        refused = self.clone.try_(*self.command(), **self.variables)
        macro.unlink()
        assert refused.returncode == 2
        assert "which may be production's: let its config say no database" in refused.stderr.splitlines()[-1]
