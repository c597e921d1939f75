"""`affected` and `dbt ci` take for the same code what the plan and automation do, over a hundred edits."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from code_edits import CHANGES, NOTHING, write_before, write_edits

from headrace.affected.dbt_changes import AffectedNodes, Comparison, DbtProject, affected_nodes
from headrace.tools.dbt import Dbt

pytestmark = [pytest.mark.slow("parses a project of 150 nodes twice"), pytest.mark.timeout(300)]

# They change no file of the project's folder: they are told by `dbt_project.yml`, or are the same on both sides.
OF_NO_FILE = {name for name, (_, files) in CHANGES.items() if not files}
# What dbt compares too, and CI then builds: by these nodes are selected, documented and guarded.
CONFIGURED_OTHERWISE = {
    "docs",
    "group_and_access",
    "meta_in_the_file",
    "meta_of_dagster",
    "persisted_docs",
    "tags_and_meta",
}
# One of the edits is of a macro that is called under a condition: nobody can tell by whom, and a seed has no text.
OF_ANY_MACRO = {"description_of_a_seed"}


@pytest.fixture(scope="module")
def affected(tmp_path_factory: pytest.TempPathFactory) -> AffectedNodes:
    """Return what all edits at once affect."""
    folder = tmp_path_factory.mktemp("same")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODE_VERSION_RATE", "1")
        before, now = folder / "before", folder / "now"
        for root in (before, now):
            write_before(root)
        write_edits(now)
        comparison = Comparison(
            head=now, base=lambda: nullcontext(before), state=None, changed=[], texts=lambda _: ({}, {})
        )
        dbt = Dbt(Path(sys.executable).with_name("dbt"), now)
        return affected_nodes(DbtProject(".", []), comparison, dbt, everything=False)


def changed(affected: AffectedNodes) -> set[str]:
    kinds = ("model", "seed", "snapshot")
    return {node.split(".")[2] for node in affected.changed if node.partition(".")[0] in kinds}


@pytest.mark.parametrize("name", sorted(CHANGES.keys() - OF_NO_FILE))
def test_what_changes_the_rows_is_affected(affected: AffectedNodes, name: str) -> None:
    assert {name, f"{name}_inmost"} & changed(affected) or f"model.shop.{name}" in affected.nodes


@pytest.mark.parametrize("name", sorted(NOTHING))
def test_what_means_nothing_is_not(affected: AffectedNodes, name: str) -> None:
    assert (name in changed(affected)) == (name in CONFIGURED_OTHERWISE | OF_ANY_MACRO)
