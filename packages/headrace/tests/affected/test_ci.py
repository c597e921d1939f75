"""`headrace ci` on throwaway workspaces, whose Makefile says what each step does."""

from __future__ import annotations

from contextlib import chdir
from typing import TYPE_CHECKING

from click.testing import CliRunner, Result

from headrace.cli.main import main

if TYPE_CHECKING:
    from conftest import Monorepo

MAKEFILE = """
test-member:
	@echo tested $(MEMBER) >> ran
	@if [ $(MEMBER) = base ]; then echo test_base.py is broken; exit 1; fi
check contracts dbt-ci:
	@echo $@ $(DBT_STATE) >> ran
"""


def call(monorepo: Monorepo, *arguments: str) -> Result:
    with chdir(monorepo.root):
        return CliRunner().invoke(main, ["ci", *arguments])


def prepared(monorepo: Monorepo) -> Monorepo:
    monorepo.write("Makefile", MAKEFILE)
    monorepo.write(".gitignore", "ran\n.headrace/\n")
    monorepo.commit()
    return monorepo


def ran(monorepo: Monorepo) -> list[str]:
    return (monorepo.root / "ran").read_text().split("\n")[:-1]


def test_a_change_runs_its_members_and_what_they_bear_on(monorepo: Monorepo) -> None:
    prepared(monorepo).write("projects/shop/src/shop/definitions.py")
    result = call(monorepo, "--base", "HEAD")
    assert result.exit_code == 0, result.output
    assert ran(monorepo) == ["check", "contracts", "dbt-ci", "tested root", "tested shop"]
    assert result.output.splitlines()[0] == "5 steps: check, contracts, dbt, test root, test shop"
    assert result.output.splitlines()[-1] == "all 5 steps passed"


def test_a_document_is_checked_and_no_more(monorepo: Monorepo) -> None:
    prepared(monorepo).write("docs/guide.md", "# Guide\n")
    assert call(monorepo, "--base", "HEAD").exit_code == 0
    assert ran(monorepo) == ["check"]


def test_all_runs_though_one_fails_and_every_failure_is_told(monorepo: Monorepo) -> None:
    prepared(monorepo).write("packages/base/src/base/rows.py")
    monorepo.write("Makefile", MAKEFILE.replace("@echo $@", "@[ $@ != contracts ] && echo $@"))
    monorepo.commit()
    monorepo.write("packages/base/src/base/rows.py", "rows = 1\n")
    result = call(monorepo, "--base", "HEAD")
    assert result.exit_code == 1
    assert ran(monorepo) == [
        "check",
        "dbt-ci",
        *(f"tested {name}" for name in ("base", "plain", "root", "shop")),
    ]
    assert "    test_base.py is broken" in result.output.splitlines()
    assert "2 of 7 steps failed: contracts, test base; see the logs in" in result.output
    log = monorepo.root / ".headrace" / "ci" / "test-base.log"
    assert "test_base.py is broken" in log.read_text()


def test_the_manifest_of_production_is_handed_on(monorepo: Monorepo) -> None:
    prepared(monorepo).write("projects/shop/src/shop/definitions.py")
    state = monorepo.root / ".headrace" / "production"
    state.mkdir(parents=True)
    assert call(monorepo, "--base", "HEAD", "--state", ".headrace/production").exit_code == 0
    assert f"dbt-ci {state}" in ran(monorepo)


def test_without_a_makefile_there_is_nothing_to_run(monorepo: Monorepo) -> None:
    monorepo.git("rm", "--quiet", "Makefile")
    result = call(monorepo, "--base", "HEAD")
    assert result.exit_code == 2
    assert "no Makefile" in result.output
