"""After an edit dbt parses what has changed; the manifest is the one that a parse of the whole project makes.

One of the edits is made where `HEADRACE_THOROUGH` is not set.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dagster_dbt_common import prepared_project

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.slow("parses a project of 40 models twice for each edit")

SOURCE = Path(__file__).parents[1] / "projects" / "wholesale"
COMMON = "models/marts/core"
WITHOUT_ORDER = ("parent_map", "child_map", "group_map")
HAS_TIMES = ("nodes", "sources", "macros", "exposures", "functions")

Change = tuple[str, str | None, str | None]
"""A file, the text that is replaced in it, and what stands there then; None for all of it: no file."""
Edit = Sequence[Sequence[Change]]
"""Changes that are made one after another, each parsed."""

NEW_MODEL = f"{COMMON}/new.sql"
NEW_YAML = f"{COMMON}/new.yml"
YAML = """models:
  - name: new
    config: {tags: [a], meta: {x: 1}}
    columns: [{name: customer_id, data_tests: [not_null]}]
"""
OVER_CUSTOMERS: Change = (NEW_MODEL, None, "select * from {{ ref('dim_customers') }}")
EDITS: Mapping[str, Edit] = {
    "a comment": [[(f"{COMMON}/dim_customers.sql", "", "-- new\n")]],
    "a macro that models call": [[("macros/local_midnight.sql", "date_trunc('day'", "date_trunc('hour'")]],
    "a ref in a macro": [
        [
            ("macros/new.sql", None, "{% macro new() %}{{ ref('dim_products') }}{% endmacro %}"),
            (NEW_MODEL, None, "select * from {{ new() }}"),
        ],
        [("macros/new.sql", "dim_products", "dim_customers")],
    ],
    "an ephemeral model and one over it": [
        [
            ("models/intermediate/int_new.sql", None, "select 1 as a from {{ ref('dim_customers') }}"),
            (NEW_MODEL, None, "select * from {{ ref('int_new') }}"),
        ],
        [("models/intermediate/int_new.sql", "1 as a", "2 as a")],
    ],
    "config and tests of a model": [
        [OVER_CUSTOMERS, (NEW_YAML, None, YAML)],
        [(NEW_YAML, "not_null", "unique"), (NEW_YAML, "tags: [a]", "tags: [b], materialized: view")],
        [(NEW_YAML, YAML, None)],
    ],
    "a name": [
        [OVER_CUSTOMERS, (NEW_YAML, None, YAML)],
        [(NEW_MODEL, OVER_CUSTOMERS[2], None), (f"{COMMON}/newer.sql", None, "select 1 as customer_id")],
    ],
    "a generic test": [
        [
            ("tests/generic/positive.sql", None, "{% test positive(model, column_name) %}select 1{% endtest %}"),
            OVER_CUSTOMERS,
            (NEW_YAML, None, YAML.replace("not_null", "positive")),
        ],
        [("tests/generic/positive.sql", "select 1", "select 2")],
    ],
    "a seed": [[("seeds/new.csv", None, "a,b\n1,2\n")], [("seeds/new.csv", "1,2", "1,3")]],
    "a variable": [[("dbt_project.yml", "loyal_after_orders: 3", "loyal_after_orders: 4")]],
    "the name of schemas": [
        [("macros/schemas.sql", None, "{% macro generate_schema_name(name, node) %}one{% endmacro %}")],
        [("macros/schemas.sql", "}one{", "}two{")],
    ],
    "what dbt does not parse": [[(f"{COMMON}/note.json", None, "{}")], [(f"{COMMON}/note.json", "{", "{ ")]],
    "a profile": [[("profiles.yml", "threads: 2", "threads: 3")]],
    "the target that a profile names": [
        [
            ("profiles.yml", "    duckdb:", "    other: {type: duckdb, path: w.duckdb}\n    duckdb:"),
            (NEW_MODEL, None, "{{ config(tags=[target.name], enabled=target.name == 'other') }} select 1 as a"),
        ],
        [("profiles.yml", "target: duckdb", "target: other"), (NEW_MODEL, "1 as a", "2 as a")],
    ],
    "a group": [[("models/groups.yml", "name: Finance,", "name: Financials,")]],
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "edit" in metafunc.fixturenames:
        mark = pytest.mark.some_of("edits of a project", 1)
        metafunc.parametrize("edit", [pytest.param(edit, id=name, marks=mark) for name, edit in EDITS.items()])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(SOURCE, tmp_path_factory.mktemp("edits") / "project"))
    manifests(folder)
    return folder


def manifests(*projects: Path) -> list[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHOLESALE_WAREHOUSE", "w.duckdb")
        patch.setenv("WHOLESALE_LAKE", "lake")
        return [prepared_project(project).manifest_path for project in projects]


def content(manifest: Path, project: Path) -> dict[str, object]:
    """Return what a manifest says, without its time, its place and an order that means nothing."""
    found: dict[str, Any] = json.loads(manifest.read_text().replace(str(project), "PROJECT"))
    del found["metadata"]
    for group in HAS_TIMES:
        for node in found[group].values():
            node.pop("created_at", None)
    for versions in found["disabled"].values():
        for node in versions:
            node.pop("created_at", None)
    for name in WITHOUT_ORDER:
        found[name] = {key: sorted(nodes) for key, nodes in found[name].items()}
    return found


def make(change: Change, project: Path) -> None:
    name, old, new = change
    file = project / name
    if old is None:
        file.parent.mkdir(exist_ok=True)
        file.write_text(str(new))
    elif new is None:
        file.unlink()
    else:
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))


def test_what_has_changed_is_parsed_as_all_is(edit: Edit, project: Path, tmp_path: Path) -> None:
    for number, changes in enumerate(edit):
        for change in changes:
            make(change, project)
        whole = Path(shutil.copytree(project, tmp_path / f"{number}", ignore=shutil.ignore_patterns("target")))
        ours, theirs = manifests(project, whole)
        assert content(ours, project) == content(theirs, whole)
    # The next edit finds the project as it was, which dbt again parses from what it knows.
    for file in {project / name for changes in edit for name, *_ in changes}:
        file.unlink(missing_ok=True)
    shutil.copytree(SOURCE, project, dirs_exist_ok=True)


def test_what_has_not_changed_is_not_parsed_again(tmp_path: Path) -> None:
    # A project of its own: dbt starts from the last parse, which may be that of another test's edit.
    project = Path(shutil.copytree(SOURCE, tmp_path / "project"))
    before = json.loads(manifests(project)[0].read_text())["nodes"]
    model = project / COMMON / "dim_customers.sql"
    model.write_text(f"{model.read_text()}-- changed\n")
    (manifest,) = manifests(project)
    parsed = json.loads(manifest.read_text())["nodes"]
    anew = {name for name, node in parsed.items() if node["created_at"] != before[name]["created_at"]}
    assert "model.wholesale.dim_customers" in anew
    # dbt parses with it what stands in the same schema file; no other folder.
    elsewhere = {name for name, node in parsed.items() if node["path"].startswith(("staging/", "intermediate/"))}
    assert len(elsewhere) > 10
    assert not anew & elsewhere
