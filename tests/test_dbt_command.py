"""dbt as headrace runs it: two revisions of a project in one process, or in one each where dbt is a program alone."""

import sys
from pathlib import Path

import click
import pytest

from headrace.tools.dbt import BaseError, Dbt, Parse, read_manifest

# dbt is started a dozen times, at several seconds each on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DBT = Path(sys.executable).parent / "dbt"


def written(root: Path, model: str) -> Path:
    """Write a dbt project of one model and one that reads it, and return the workspace's folder."""
    project = root / "dbt"
    (project / "models").mkdir(parents=True)
    (project / "dbt_project.yml").write_text("{name: shop, version: '1.0', profile: shop}\n")
    (project / "profiles.yml").write_text(
        "shop: {target: dev, outputs: {dev: {type: duckdb, path: \"{{ env_var('HEADRACE_WAREHOUSE') }}\"}}}\n"
    )
    (project / "models/orders.sql").write_text(model)
    (project / "models/days.sql").write_text("select * from {{ ref('orders') }}\n")
    return root


def program(folder: Path) -> Path:
    """Return a dbt with no interpreter beside it."""
    folder.mkdir()
    file = folder / "dbt"
    file.write_text(f'#!/bin/sh\nexec "{DBT}" "$@"\n')
    file.chmod(0o755)
    return file


@pytest.mark.some_of("two revisions of a project", 1)
def test_two_revisions_are_compared_alike_in_one_process_and_in_two(tmp_path: Path) -> None:
    before, now = written(tmp_path / "before", "select 1 as id\n"), written(tmp_path / "now", "select 2 as id\n")
    for name, dbt in (("one", Dbt(DBT, now)), ("two", Dbt(program(tmp_path / "bin"), now))):
        base, head = (Parse(root / "dbt", tmp_path / name / root.name, root) for root in (before, now))
        assert dbt.modified_since(base, head) == {"model.shop.orders"}
        codes = [read_manifest(side.target)["nodes"]["model.shop.orders"]["raw_code"] for side in (base, head)]
        assert codes == ["select 1 as id", "select 2 as id"]


@pytest.mark.some_of("two revisions of a project", 1)
def test_which_revision_can_not_be_parsed_is_told(tmp_path: Path) -> None:
    broken, good = (
        written(tmp_path / "broken", "{{ ref('nothing') }}\n"),
        written(tmp_path / "good", "select 1 as id\n"),
    )
    base, head = (Parse(root / "dbt", tmp_path / "target" / root.name, root) for root in (broken, good))
    with pytest.raises(BaseError, match=r"broken/dbt: dbt parse failed: .* depends on a node named 'nothing'"):
        Dbt(DBT, good).modified_since(base, head)
    with pytest.raises(click.ClickException, match=r"broken/dbt: dbt ls failed: .* named 'nothing'") as caught:
        Dbt(DBT, broken).modified_since(head, base)
    assert not isinstance(caught.value, BaseError)
    assert "\n" not in caught.value.message
