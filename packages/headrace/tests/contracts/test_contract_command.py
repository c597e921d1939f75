"""`headrace contract` on small workspaces: what a location's Definitions say, other interpreters, and wrong calls."""

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

HEADRACE = Path(sys.executable).parent / "headrace"

SHOP = """
    import dagster as dg

    print("a location may print")
    days = dg.DailyPartitionsDefinition("2024-01-01", timezone="Europe/Oslo")
    columns = dg.TableSchema([dg.TableColumn("id", "int64", constraints=dg.TableColumnConstraints(nullable=False))])

    @dg.asset(
        partitions_def=days,
        metadata={"dagster/column_schema": columns, "partition_expr": "day"},
        check_specs=[
            dg.AssetCheckSpec("not_empty", asset="sales", blocking=True),
            dg.AssetCheckSpec("plausible", asset="sales"),
        ],
    )
    def sales(): ...

    defs = dg.Definitions(assets=[sales])
"""
REPORTS = """
    import warnings
    import dagster as dg

    warnings.simplefilter("ignore")  # virtual assets and code references are new
    days = dg.DailyPartitionsDefinition("2024-01-02", timezone="Europe/Oslo")
    looking_back = dg.TimeWindowPartitionMapping(start_offset=-1, allow_nonexistent_upstream_partitions=True)
    place = dg.CodeReferencesMetadataValue(
        code_references=[dg.LocalFileCodeReference(file_path=__file__, line_number=9, label="here")]
    )
    read = dg.AssetSpec(
        "sales",
        metadata={
            "dagster/code_references": place,
            "dagster/column_schema": dg.TableSchema([dg.TableColumn("id", "bigint"), dg.TableColumn("day", "?")]),
        },
    )
    view = dg.AssetSpec("view", deps=["sales"], is_virtual=True)

    @dg.multi_asset(specs=[view])
    def make_view(): ...

    @dg.asset(deps=[dg.AssetDep("sales", partition_mapping=looking_back)], partitions_def=days)
    def rolling(): ...

    by_month = dg.MonthlyPartitionsDefinition("2024-02-01", timezone="Europe/Oslo")

    @dg.asset(deps=["view", "rates"], partitions_def=by_month)
    def months(): ...

    @dg.definitions
    def defs():
        return dg.Definitions(
            assets=[read, make_view, rolling, months, dg.AssetSpec("rates", metadata={"loader": "the bank"}),
                    dg.AssetSpec("unread")]
        )
"""

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a workspace of two locations, `shop` and `reports`."""
    root = tmp_path.resolve() / "workspace"
    for name, text in {"shop": SHOP, "reports": REPORTS}.items():
        (root / name).mkdir(parents=True)
        (root / name / "__init__.py").touch()
        # The name of a module of headrace, which must not be found in its place.
        (root / name / "definitions.py").write_text(dedent(text))
    (root / "storage.py").write_text("raise SystemExit('imported by its bare name')\n")
    write_workspace(root, "{module_name: shop.definitions, location_name: shop}")
    return root


def write_workspace(root: Path, shop: str) -> None:
    reports = "{module_name: reports.definitions, location_name: reports}"
    (root / "workspace.yaml").write_text(f"load_from:\n  - python_module: {shop}\n  - python_module: {reports}\n")


@pytest.fixture
def call(root: Path) -> Call:
    """Return a function that calls `headrace contract` in the workspace."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE", "DAGSTER"))}
        return subprocess.run(
            [HEADRACE, "contract", *arguments], check=False, cwd=root, env=inherited, capture_output=True, text=True
        )

    return run


def exported(call: Call, location: str) -> Mapping[str, Any]:
    result = call("export", location)
    assert (result.returncode, result.stderr) == (0, "")
    contract: Mapping[str, Any] = json.loads(result.stdout)
    return contract


def time_partitions(grain: str, start: str) -> Mapping[str, Any]:
    at = {"start": start, "end": None, "timezone": "Europe/Oslo", "end_offset": 0}
    return {"kind": "time", "grain": grain, **at}


def mapping(kind: str, start_offset: int = 0, *, allow: bool = False) -> Mapping[str, Any]:
    return {"kind": kind, "start_offset": start_offset, "end_offset": 0, "allow_nonexistent": allow}


@pytest.mark.slow
def test_what_a_location_promises(call: Call) -> None:
    assert exported(call, "shop") == {
        "version": 1,
        "location": "shop",
        "produces": [
            {
                "key": "sales",
                "partitions": time_partitions("day", "2024-01-01T00:00:00+01:00"),
                "columns": [
                    {"name": "day", "type": None, "nullable": False},
                    {"name": "id", "type": "int64", "nullable": False},
                ],
                "blocking_checks": ["not_empty"],
                "file": "shop/definitions.py",
            }
        ],
        "consumes": [],
    }


@pytest.mark.slow
def test_what_a_location_expects(call: Call) -> None:
    rates, sales = exported(call, "reports")["consumes"]
    months = time_partitions("month", "2024-02-01T00:00:00+01:00")
    assert (rates["key"], rates["loader"], rates["stub"]) == ("rates", "the bank", False)
    assert rates["asked"] == [{"by": "months", "partitions": months, "mapping": mapping("default")}]
    assert sales == {
        "key": "sales",
        "partitions": None,
        "columns": [
            {"name": "day", "type": None, "nullable": True},
            {"name": "id", "type": "bigint", "nullable": True},
        ],
        "freshness": None,
        "loader": None,
        "stub": False,
        "asked": [
            {"by": "months", "partitions": months, "mapping": mapping("virtual")},
            {
                "by": "rolling",
                "partitions": time_partitions("day", "2024-01-02T00:00:00+01:00"),
                "mapping": mapping("time_window", -1, allow=True),
            },
        ],
        "file": "reports/definitions.py:9",
    }


@pytest.mark.slow
def test_a_workspace_that_holds_and_one_that_does_not(root: Path, call: Call) -> None:
    result = call("check")
    assert (result.returncode, result.stdout, result.stderr) == (0, "contracts hold: shop, reports\n", "")
    reports = root / "reports" / "definitions.py"
    reports.write_text(reports.read_text().replace('dg.TableColumn("id", "bigint")', 'dg.TableColumn("id", "int16")'))
    result = call("check")
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout == (
        "sales: shop (shop/definitions.py) gives id as int64, which does not fit into the int16 that reports "
        "(reports/definitions.py:9) expects: give the new type as a new column, and keep this one until reports has "
        "moved\n"
    )
    result = call("check", "--format", "json")
    (finding,) = json.loads(result.stdout)["findings"]
    assert result.returncode == 1
    assert (finding["kind"], finding["key"], finding["column"]) == ("retyped column", "sales", "id")
    assert (finding["producer"], finding["consumer"]) == ("shop", "reports")
    assert (finding["promised_in"], finding["expected_in"]) == ("shop/definitions.py", "reports/definitions.py:9")


@pytest.mark.slow
def test_a_location_in_an_environment_without_headrace(root: Path, call: Call, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", foreign], check=True)
    # The packages of this environment, without what its own .pth files add: the workspace's members.
    (folder,) = foreign.glob("lib/python*/site-packages")
    (folder / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = foreign / "bin" / "python"
    probe = subprocess.run([python, "-c", "import headrace"], check=False, capture_output=True, text=True)
    assert "No module named 'headrace'" in probe.stderr
    here = exported(call, "shop")
    definitions = root / "shop" / "definitions.py"
    definitions.write_text(definitions.read_text() + f"\nimport sys\nassert sys.prefix == {str(foreign)!r}\n")
    assert call("export", "shop").returncode == 1
    write_workspace(root, f"{{module_name: shop.definitions, location_name: shop, executable_path: {python}}}")
    assert exported(call, "shop") == here
    assert call("check").returncode == 0


@pytest.mark.slow
def test_a_deploy_is_checked_against_what_is_deployed(root: Path, call: Call) -> None:
    for name in ("shop", "reports"):
        assert call("export", name, "--out", "deployed").returncode == 0
    result = call("check", "--against", "deployed")
    assert (result.returncode, result.stdout) == (0, "contracts hold: shop, reports, against deployed\n")
    definitions = root / "shop" / "definitions.py"
    definitions.write_text(definitions.read_text().replace("blocking=True", "blocking=False"))
    result = call("check", "shop", "--against", "deployed")
    assert result.returncode == 1
    assert "has promised the blocking check not_empty to reports" in result.stdout
    assert call("check", "reports", "--against", "deployed").returncode == 0
    # A location of another repository is there by its file alone.
    (root / "workspace.yaml").write_text(
        "load_from:\n  - python_module: {module_name: reports.definitions, location_name: reports}\n"
    )
    assert call("check").returncode == 1
    assert call("check", "--against", "deployed").returncode == 0


@pytest.mark.slow
def test_a_location_that_does_not_load(root: Path, call: Call) -> None:
    definitions = root / "shop" / "definitions.py"
    definitions.write_text("import nothing_of_that_name\n")
    for arguments in (("check",), ("export", "shop")):
        result = call(*arguments)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == (
            "Error: shop does not load: ModuleNotFoundError: No module named 'nothing_of_that_name' "
            f"({definitions}, line 1)\n"
        )
    definitions.write_text("import dagster as dg\n\none = dg.Definitions()\nother = dg.Definitions()\n")
    result = call("export", "shop")
    assert result.stderr == "Error: shop does not load: shop.definitions has 2 entry points: name one as `attribute`\n"
    write_workspace(root, "{module_name: shop.definitions, location_name: shop, attribute: other}")
    assert exported(call, "shop")["produces"] == []
    write_workspace(root, "{module_name: shop.definitions, location_name: shop, executable_path: none/python}")
    result = call("export", "shop")
    assert result.stderr == f"Error: shop: {root}/none/python: No such file or directory: see workspace.yaml\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("export shops", "shops: not in {root}/workspace.yaml: choose one of shop, reports"),
        ("export", "Missing argument 'LOCATION'."),
        ("list", "No such command 'list': see `headrace contract --help`"),
        ("check --format yaml", "Invalid value for '--format': 'yaml' is not one of 'text', 'json'."),
        ("check shop", "shop: one location is checked against what is deployed: add --against DIR"),
        (
            "check --against nowhere",
            "--against nowhere: there is no <location>.json: write them with `headrace contract export`",
        ),
        ("check --against broken", "broken/shop.json: {broken}: export it again with `headrace contract export`"),
        ("check --against renamed", "renamed/sales.json: it is the contract of shop: name it shop.json"),
    ],
)
def test_a_wrong_call_is_one_line(root: Path, call: Call, arguments: str, message: str) -> None:
    contract = '{"version": 1, "location": "shop", "produces": [], "consumes": []}'
    for folder, name, text in (("broken", "shop", contract.replace("1", "2")), ("renamed", "sales", contract)):
        (root / folder).mkdir()
        (root / folder / f"{name}.json").write_text(text)
    result = call(*arguments.split())
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"Error: {message.format(root=root, broken='version: Input should be 1')}\n"
