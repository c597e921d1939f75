import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from headrace.cli.main import main
from headrace.demo.export import write_demo_data

RANGE = ["--from", "2024-01-01", "--to", "2024-01-03"]


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["demo-data", *map(str, arguments)])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if not file.is_dir()}


def test_it_writes_and_says_so_in_one_line(tmp_path: Path) -> None:
    result = call(*RANGE, "--orders-per-day", "400", "--seed", "7", "--out", tmp_path / "new" / "exports")
    assert result.exit_code == 0
    assert re.fullmatch(
        r"wrote 3 days to .*exports: 13 files, 9\d\d orders, [12],\d\d\d items, \d+\.\d s\n", result.output
    )
    write_demo_data(tmp_path / "same", date(2024, 1, 1), date(2024, 1, 3), 400, 7)
    assert contents(tmp_path / "new" / "exports") == contents(tmp_path / "same")


def test_the_export_folder_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_EXPORTS", str(tmp_path / "exports"))
    assert call(*RANGE).exit_code == 0
    assert (tmp_path / "exports" / "orders" / "2024-01-03.csv").exists()


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    assert call(*RANGE, "--out", tmp_path).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".headrace-export.json",
        "customers.csv",
        "items",
        "orders",
        "products.csv",
        "stores.csv",
        "supplies.csv",
        "tweets",
    ]


def test_what_an_interrupted_call_left_does_not_stop_the_next(tmp_path: Path) -> None:
    (tmp_path / ".headrace-export-x1y2z3" / "new").mkdir(parents=True)
    assert call(*RANGE, "--out", tmp_path).exit_code == 0


def test_force_replaces_an_export_and_leaves_other_files(tmp_path: Path) -> None:
    out = tmp_path / "exports"
    call(*RANGE, "--out", out, "--format", "parquet")
    (out / "suppliers.csv").write_text("id\n")
    result = call("--from", "2024-01-02", "--to", "2024-01-02", "--seed", "8", "--out", out, "--force")
    assert result.exit_code == 0
    (out / "suppliers.csv").unlink()
    write_demo_data(tmp_path / "fresh", date(2024, 1, 2), date(2024, 1, 2), 400, 8)
    assert contents(out) == contents(tmp_path / "fresh")


def test_revise_accepts_the_arguments_of_the_export(tmp_path: Path) -> None:
    same: list[str | Path] = [*RANGE, "--orders-per-day", "400", "--seed", "7", "--out", tmp_path]
    call(*same)
    assert call(*same, "--revise", "2024-01-02").exit_code == 0
    result = call("--out", tmp_path, "--revise", "2024-01-02")
    assert re.fullmatch(r"wrote 1 day to .*: 2 files, 3\d\d orders, .*\n", result.output)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "2024-01-03", "--to", "2024-01-01"], "--to 2024-01-01 is before --from 2024-01-03"),
        (["--from", "2010-01-01"], "--from 2010-01-01 is before 2015-09-01"),
        (["--from", "2024-02-30"], "'--from': '2024-02-30' does not match"),
        (["--orders-per-day", "0"], "'--orders-per-day': 0 is not in the range"),
        (["--seed", "seven"], "'seven' is not a valid integer"),
        (["--seed", "8"], "was written with --seed 7, not 8: name another folder, or replace it with --force"),
        (["--orders-per-day", "9"], "was written with --orders-per-day 400, not 9"),
        (["--format", "parquet"], "was written with --format csv, not parquet"),
        (["--format", "xml"], "'xml' is not one of 'csv'"),
        (["--revise", "2024-01-09"], "--revise 2024-01-09: {out} has no such day"),
        (["--revise", "2024-01-02", "--to", "2024-01-01"], "2024-01-02 is not between --from and --to"),
        (["--revise", "2024-01-02", "--seed", "8"], "was written with --seed 7, not 8"),
        (["--revise", "2024-01-02", "--force"], "--force has no effect with --revise"),
        (["--jafgen", ".", "--seed", "8"], "--seed has no effect with --jafgen"),
        (["--sed", "8"], "No such option '--sed'"),
    ],
)
def test_a_wrong_call_is_one_line_and_changes_nothing(tmp_path: Path, arguments: list[str], message: str) -> None:
    out = tmp_path / "exports"
    call(*RANGE, "--out", out)
    before = contents(tmp_path)
    result = call("--out", out, *arguments)
    assert result.exit_code == 2
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1
    assert message.format(out=out) in result.output
    assert contents(tmp_path) == before


def test_a_missing_folder_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADRACE_EXPORTS", raising=False)
    result = call()
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "HEADRACE_EXPORTS" in result.output


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_files_of_others_are_never_touched(tmp_path: Path, force: list[str]) -> None:
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "2024-01-01.csv").write_text("mine\n")
    (tmp_path / "file").write_text("mine\n")
    before = contents(tmp_path)
    result = call(*RANGE, "--out", tmp_path, *force)
    assert result.exit_code == 2
    assert "has files that demo-data did not write" in result.output
    result = call(*RANGE, "--out", tmp_path / "file", *force)
    assert result.exit_code == 2
    assert "is a file" in result.output
    assert contents(tmp_path) == before


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = call(*RANGE, "--out", tmp_path / "file" / "exports")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "was not written: File exists" in result.output


@pytest.mark.slow
def test_a_killed_call_leaves_no_half_export(tmp_path: Path) -> None:
    out = tmp_path / "exports"
    headrace = Path(sys.executable).with_name("headrace")
    command = [str(headrace), "demo-data", "--out", str(out), "--orders-per-day", "4000"]
    with subprocess.Popen(command) as process:
        while not list(tmp_path.glob(".headrace-export-*/new/orders/2024-01-0*.csv")):
            assert process.poll() is None
        process.kill()
    assert not out.exists()
