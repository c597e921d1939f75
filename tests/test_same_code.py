"""`affected` and `dbt ci` take for the same code what the plan and automation do, over a hundred edits."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from code_edits import CHANGES, NOTHING, write, write_before, write_edits

from headrace.affected.dbt_changes import AffectedNodes, Comparison, DbtProject, affected_nodes
from headrace.tools.dbt import Dbt

pytestmark = [pytest.mark.slow("parses a project of 150 nodes twice"), pytest.mark.timeout(300)]

# They change no file of the project's folder: they are told by `dbt_project.yml`, or are the same on both sides.
OF_NO_FILE = {name for name, (_, files) in CHANGES.items() if not files}
# What dbt compares too, and CI then builds: by these nodes are selected, documented and guarded.
CONFIGURED_OTHERWISE = {
    *("docs", "group_and_access", "meta_in_the_file", "meta_of_dagster", "persisted_docs", "tags_and_meta"),
}
BY_TARGET = "{{{{ config(materialized={} if target.name == 'prod' else 'view') }}}} select 1 as id"
SCHEMAS = (
    "{{% macro generate_schema_name(custom_schema_name, node) %}}"
    "{{{{ '{}' if target.name == 'prod' else 'main' }}}}{{% endmacro %}}"
)
CREATE = "{{% macro duckdb__create_table_as(temporary, relation, sql) %}}create table x as {}{{% endmacro %}}"
# Of each a text before and after, which no code version counts, and one node that it bears on.
OUT_OF_SIGHT = {
    "a_macro_of_the_adapter": ("macros/made.sql", CREATE.format("{{ sql }}"), CREATE.format("({{ sql }}) limit 1")),
    "the_name_of_schemas": ("macros/names.sql", SCHEMAS.format("gold"), SCHEMAS.format("marts")),
    "a_config_of_another_target": ("models/m.sql", BY_TARGET.format("'table'"), BY_TARGET.format("'incremental'")),
    "a_hook_under_a_condition": (
        "macros/grants.sql",
        "{% macro grant_all() %}select 1{% endmacro %}",
        "{% macro grant_all() %}select 2{% endmacro %}",
    ),
    "a_name_put_together": (
        "macros/cents.sql",
        "{% macro to_cents() %}1{% endmacro %}",
        "{% macro to_cents() %}2{% endmacro %}",
    ),
}


def compared(before: Path, now: Path) -> AffectedNodes:
    """Return what the edits between two folders affect."""
    comparison = Comparison(
        head=now, base=lambda: nullcontext(before), state=None, changed=[], texts=lambda _: ({}, {})
    )
    return affected_nodes(
        DbtProject(".", []), comparison, Dbt(Path(sys.executable).with_name("dbt"), now), everything=False
    )


@pytest.fixture(scope="module")
def affected(tmp_path_factory: pytest.TempPathFactory) -> AffectedNodes:
    """Return what all edits at once affect."""
    folder = tmp_path_factory.mktemp("same")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODE_VERSION_RATE", "1")
        for root in (folder / "before", folder / "now"):
            write_before(root)
        write_edits(folder / "now")
        return compared(folder / "before", folder / "now")


def changed(affected: AffectedNodes) -> set[str]:
    kinds = ("model", "seed", "snapshot")
    return {node.split(".")[2] for node in affected.changed if node.partition(".")[0] in kinds}


@pytest.mark.parametrize("name", sorted(CHANGES.keys() - OF_NO_FILE))
def test_what_changes_the_rows_is_affected(affected: AffectedNodes, name: str) -> None:
    assert {name, f"{name}_inmost"} & changed(affected) or f"model.shop.{name}" in affected.nodes


@pytest.mark.parametrize("name", sorted(NOTHING))
def test_what_means_nothing_is_not(affected: AffectedNodes, name: str) -> None:
    assert (name in changed(affected)) == (name in CONFIGURED_OTHERWISE)


@pytest.mark.some_of("what no code version counts", 1)
@pytest.mark.parametrize("name", OUT_OF_SIGHT)
def test_what_no_code_version_counts_is_affected(tmp_path: Path, name: str) -> None:
    file, before, after = OUT_OF_SIGHT[name]
    model = "select 1 as id {% if execute %}, {{ context['to_' ~ 'cents']() }} as cents{% endif %}"
    hook = "{% if execute %}{{ grant_all() }}{% endif %}"
    files = {
        "dbt_project.yml": f"{{name: shop, profile: shop, models: {{+materialized: table, +post-hook: '{hook}'}}}}",
        "profiles.yml": "shop: {target: dev, outputs: {dev: {type: duckdb, path: ':memory:'}}}",
        "models/m.sql": model if name == "a_name_put_together" else "select 1 as id",
        "macros/grants.sql": "{% macro grant_all() %}select 1{% endmacro %}",
    }
    for folder, text in (("before", before), ("now", after)):
        write(tmp_path / folder, {**files, file: text})
    assert "model.shop.m" in compared(tmp_path / "before", tmp_path / "now").nodes
