"""`headrace contract` on this workspace: what holds, and what each change of it breaks."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from headrace.cli.main import main

pytestmark = [
    pytest.mark.slow("loads a location some twenty times, each time in a process of its own"),
    pytest.mark.timeout(300),
]

A_CHANGE = pytest.mark.some_of("changes of a contract", 1)

ROOT = Path(__file__).parents[1]

TABLES = "projects/ingest/src/ingest/tables.py"
RAW = "projects/ingest/src/ingest/defs/raw.py"
CHECKS = "projects/ingest/src/ingest/checks.py"
SOURCES = "dbt/models/sources/raw.yml"
STAGING = "dbt/models/staging/stg_orders.sql"
INGEST, ANALYTICS = "ingest", "analytics"

SUBTOTAL = 'Column("subtotal", "bigint", "Sum of the items\' prices, in cents."),'
SECOND = """
import dagster as dg

@dg.asset(key=["raw", "orders"])
def orders(): ...
"""


@dataclass(frozen=True)
class Copy:
    """A copy of the workspace that may be edited; its members are found by their path, before those installed.

    Args:
        root: the copy's folder.
        deployed: the folder of the contracts that it had when it was made.
    """

    root: Path
    deployed: Path

    def call(self, *arguments: str) -> Result:
        """Call `headrace contract` in the copy; each location that it loads is a process of its own."""
        members = [str(self.root / path) for path in ("projects/ingest/src", "projects/analytics/src")]
        hidden = dict.fromkeys(name for name in os.environ if name.startswith(("HEADRACE_", "DAGSTER")))
        loaded = {"PYTHONPATH": os.pathsep.join(members), "PYTHONDONTWRITEBYTECODE": "1"}
        with chdir(self.root):
            return CliRunner(env={**hidden, **loaded}).invoke(main, ["contract", *arguments])

    @contextmanager
    def edited(self, *edits: tuple[str, str, str]) -> Iterator[None]:
        """Replace text in files while in the context; an empty text to replace makes a new file."""
        before: dict[Path, str | None] = {}
        try:
            for name, old, new in edits:
                file = self.root / name
                text = file.read_text() if file.exists() else ""
                before.setdefault(file, text if file.exists() else None)
                assert old in text, f"{name} has changed: {old}"
                file.write_text(text.replace(old, new, 1) if old else new)
            yield
        finally:
            for file, text in before.items():
                if text is None:
                    file.unlink()
                else:
                    file.write_text(text)

    def findings(self, *arguments: str) -> Sequence[Mapping[str, str | None]]:
        """Return what `contract check` finds; its exit code must say the same."""
        result = self.call("check", "--format", "json", *arguments)
        assert result.stderr == ""
        findings: Sequence[Mapping[str, str | None]] = json.loads(result.stdout)["findings"]
        assert result.exit_code == (1 if findings else 0)
        return findings


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    folder = tmp_path_factory.mktemp("contracts").resolve()
    root = folder / "workspace"
    ignored = shutil.ignore_patterns("__pycache__", "target", "logs", "tests")
    for name in ("projects", "dbt", "packages/dbt_common/src"):
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    shutil.copy(ROOT / "workspace.yaml", root)
    made = Copy(root, folder / "deployed")
    for name in (INGEST, ANALYTICS):
        assert made.call("export", name, "--out", str(made.deployed)).exit_code == 0
    return made


def test_the_copy_is_what_is_loaded(copy: Copy) -> None:
    result = copy.call("export", INGEST)
    assert result.stdout == (copy.deployed / "ingest.json").read_text()
    contract = json.loads(result.stdout)
    assert {asset["file"].partition(":")[0] for asset in contract["produces"]} == {TABLES}
    with copy.edited((TABLES, '"bigint", "Sum of the items\' prices', '"double", "Sum of the items\' prices')):
        assert copy.call("export", INGEST).stdout != result.stdout


def test_the_workspace_holds_with_itself_and_with_what_is_deployed(copy: Copy) -> None:
    assert copy.findings() == []
    assert copy.findings("--against", str(copy.deployed)) == []


EVENTS = ("items", "orders", "tweets")
WIDER = "          - {name: gross, data_type: hugeint}\n          - {name: subtotal,"


# Changes that do not touch each other go together: a location takes seconds to load.
@A_CHANGE
@pytest.mark.parametrize(
    ("side", "edits", "expected"),
    [
        pytest.param(
            INGEST,
            [
                (TABLES, '"ordered_at", "timestamp"', '"placed_at", "timestamp"'),
                (TABLES, 'time="ordered_at"', 'time="placed_at"'),
                (TABLES, '"subtotal", "bigint"', '"subtotal", "double"'),
                (RAW, "settings.start().isoformat()", '"2024-02-01"'),
            ],
            [
                ("renamed column", "raw/orders", "ordered_at"),
                ("retyped column", "raw/orders", "subtotal"),
                *[("start", f"raw/{name}", None) for name in EVENTS],
            ],
            id="producer-renames-retypes-and-starts-later",
        ),
        pytest.param(
            INGEST,
            [
                (TABLES, SUBTOTAL, ""),
                (RAW, "settings.start().isoformat()", 'settings.start().isoformat(), timezone="Europe/Oslo"'),
            ],
            [
                ("missing column", "raw/orders", "subtotal"),
                *[("timezone", f"raw/{name}", None) for name in EVENTS],
            ],
            id="producer-drops-and-zone",
        ),
        pytest.param(
            INGEST,
            [
                (TABLES, 'name="orders"', 'name="order"'),
                (RAW, "dg.DailyPartitionsDefinition(start_date=", "dg.WeeklyPartitionsDefinition(start_date="),
            ],
            [("no producer", "raw/orders", None), *[("grain", f"raw/{name}", None) for name in ("items", "tweets")]],
            id="producer-key-and-grain",
        ),
        pytest.param(
            ANALYTICS,
            [
                (SOURCES, "          - {name: subtotal,", WIDER),
                (SOURCES, "{name: subtotal, data_type: bigint", "{name: subtotal, data_type: integer"),
                (SOURCES, "start: \"{{ env_var('HEADRACE_START', '2024-01-01') }}\"", "start: '2023-12-31'"),
            ],
            [
                ("missing column", "raw/orders", "gross"),
                ("retyped column", "raw/orders", "subtotal"),
                *[("start", f"raw/{name}", None) for name in EVENTS],
            ],
            id="consumer-wants-more-narrows-and-starts-earlier",
        ),
        pytest.param(
            ANALYTICS,
            [(SOURCES, "{grain: day,", "{grain: hour,")],
            [("grain", f"raw/{name}", None) for name in EVENTS],
            id="consumer-grain",
        ),
        pytest.param(
            ANALYTICS,
            [
                ("projects/analytics/src/analytics/defs/again.py", "", SECOND),
                (SOURCES, "- name: orders", "- name: sales"),
                (STAGING, "'orders'", "'sales'"),
            ],
            [("two producers", "raw/orders", None), ("no producer", "raw/sales", None)],
            id="consumer-key-and-second-producer",
        ),
    ],
)
def test_a_change_that_breaks_a_contract_is_found(
    copy: Copy, side: str, edits: Sequence[tuple[str, str, str]], expected: Sequence[tuple[str, str, str | None]]
) -> None:
    """Only the edited location is loaded; the other one is as it was exported."""
    with copy.edited(*edits):
        findings = copy.findings(side, "--against", str(copy.deployed))
    assert Counter((finding["kind"], finding["key"], finding["column"]) for finding in findings) == Counter(expected)
    for finding in findings:
        assert finding["expected_in"] in str(finding["message"])
        if finding["kind"] not in ("no producer", "two producers"):
            assert (finding["producer"], finding["consumer"]) == (INGEST, ANALYTICS)
            assert str(finding["promised_in"]).startswith(f"{TABLES}:")
            assert str(finding["expected_in"]).startswith(f"{SOURCES}:")
            assert str(finding["promised_in"]) in str(finding["message"])


@A_CHANGE
@pytest.mark.parametrize(
    ("side", "edits"),
    [
        pytest.param(
            INGEST,
            [
                (TABLES, SUBTOTAL, f'# In cents.\n            {SUBTOTAL} Column("tip", "bigint", "In cents."),'),
                (RAW, "settings.start().isoformat()", '"2023-12-01"'),
            ],
            id="a-comment-a-new-column-and-an-earlier-start",
        ),
        pytest.param(
            ANALYTICS,
            [
                (SOURCES, "description: Sum of the prices", "description: The sum of the prices"),
                (SOURCES, "{name: subtotal, data_type: bigint", "{name: SUBTOTAL, data_type: int64"),
            ],
            id="words-and-spelling",
        ),
    ],
)
def test_a_harmless_change_passes(copy: Copy, side: str, edits: Sequence[tuple[str, str, str]]) -> None:
    with copy.edited(*edits):
        assert copy.findings(side, "--against", str(copy.deployed)) == []


@A_CHANGE
def test_a_blocking_check_that_is_gone_is_found_before_the_deploy(copy: Copy) -> None:
    with copy.edited((CHECKS, "_NOT_EMPTY, asset=key, blocking=True", "_NOT_EMPTY, asset=key, blocking=False")):
        assert copy.findings() == []
        findings = copy.findings(INGEST, "--against", str(copy.deployed))
    assert {(finding["kind"], finding["column"]) for finding in findings} == {("blocking check", "not_empty")}
    assert len(findings) == 7


@A_CHANGE
def test_a_raw_column_is_renamed_without_breaking_anybody(copy: Copy, tmp_path: Path) -> None:
    """Expand, migrate, contract, as docs/linking.md tells it: after each step the gate passes, and it was needed."""
    deployed = tmp_path / "deployed"
    shutil.copytree(copy.deployed, deployed)
    old = 'Column("store_id", "varchar", "The store that sold.", required=True),'
    new = 'Column("shop_id", "varchar", "The store that sold."),'
    yaml_old = "- {name: store_id, data_type: varchar, description: The store that took it.}"
    yaml_new = yaml_old.replace("store_id", "shop_id")
    expand = (TABLES, old, f"{old}\n            {new}")
    migrate = [(SOURCES, yaml_old, yaml_new), (STAGING, "store_id,", "shop_id as store_id,")]
    contract = (TABLES, f"{old}\n            {new}", new)

    def gate(*locations: str) -> Sequence[Mapping[str, str | None]]:
        return copy.findings(*locations, "--against", str(deployed))

    def deploy(location: str) -> None:
        assert gate(location) == []
        assert copy.call("export", location, "--out", str(deployed)).exit_code == 0

    # All at once: it holds in the end, and no order of deploys gets there.
    with copy.edited((TABLES, old, new), *migrate):
        assert copy.findings() == []
        assert {str(finding["action"]).partition(":")[0] for finding in gate()} == {
            "neither ingest nor analytics can go first",
            "neither analytics nor ingest can go first",
        }
    with copy.edited(expand):
        deploy(INGEST)
        with copy.edited(*migrate):
            with copy.edited(contract):
                assert [finding["action"] for finding in gate()] == [
                    "deploy analytics first: in this workspace the two fit"
                ]
            deploy(ANALYTICS)
            with copy.edited(contract):
                deploy(INGEST)
                assert gate() == []


@A_CHANGE
def test_the_python_of_the_documentation_reads_another_location(copy: Copy) -> None:
    example = (ROOT / "docs" / "linking.md").read_text().partition("```python\n")[2].partition("```")[0]
    with copy.edited(("projects/ingest/src/ingest/defs/board_report.py", "", example)):
        assert copy.findings() == []
        (consumed,) = json.loads(copy.call("export", INGEST).stdout)["consumes"]
        assert (consumed["key"], consumed["stub"]) == ("store_months", False)
        assert [asked["by"] for asked in consumed["asked"]] == ["board_report"]
        edit = ("dbt/models/marts/monthly/monthly.yml", "- name: revenue_cents", "- name: revenue")
        with copy.edited(edit):
            (finding,) = copy.findings()
    assert (finding["kind"], finding["producer"], finding["consumer"]) == ("renamed column", ANALYTICS, INGEST)
