"""How `headrace dbt ci` tells rows apart, which window it builds, and what it writes: no process is started."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from headrace.cli.user_errors import UserError
from headrace.dbt_ci.build import Choice
from headrace.dbt_ci.comparison import Side, compared_columns, compared_rows, sampling
from headrace.dbt_ci.keys import key_of
from headrace.dbt_ci.profile import Target, production_file
from headrace.dbt_ci.report import Columns, Example, Model, Report, Rows
from headrace.dbt_ci.tables import as_markdown
from headrace.dbt_ci.warehouse import BesideFile, BesideSchemas, Warehouse
from headrace.dbt_ci.windows import Partitions, Window, window_of

WHERE = {
    ("lake", "headrace_ci_1"): True,
    ("lake", "headrace_ci_1_finance"): True,
    ("lake", "headrace_ci_12"): False,
    ("lake", "finance"): False,
    ("other", "headrace_ci_1"): False,
}


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Warehouse]:
    with duckdb.connect() as connection:
        connection.execute("attach ':memory:' as production")
        yield BesideFile(connection, tmp_path / "ci.duckdb")


def compared(warehouse: Warehouse, before: str, after: str, key: list[str], one_in: int = 1) -> Rows:
    sides = []
    for name, sql in (("a", before), ("b", after)):
        warehouse.connection.execute(f"create table {name} as {sql}")
        sides.append(Side(name, warehouse.columns(name) or {}))
    return compared_rows(warehouse, sides[0], sides[1], key=key, one_in=one_in, examples=5)


def test_rows_are_told_apart_by_their_key(warehouse: Warehouse) -> None:
    rows = compared(
        warehouse,
        "from (values (1, 'a', 1.5::double), (2, 'b', null), (3, 'c', 0.3)) t(id, name, amount)",
        "from (values (1, 'a', 1.5::double), (2, 'B', 2.5), (4, 'd', 0.3)) t(id, name, amount)",
        ["id"],
    )
    assert (rows.added, rows.removed, rows.changed) == (1, 1, 1)
    assert rows.columns == {"amount": 1, "name": 1}
    assert rows.examples == [
        Example({"id": "3"}, "removed", []),
        Example({"id": "2"}, "changed", ["name", "amount"]),
        Example({"id": "4"}, "added", []),
    ]


def test_the_last_digits_of_a_float_are_no_change(warehouse: Warehouse) -> None:
    assert not compared(warehouse, "select 1 as id, 0.1::double + 0.2 as x", "select 1 as id, 0.3::double as x", ["id"])


@pytest.mark.parametrize("ids", ["(1), (1), (2)", "(1), (null), (2)"])
def test_rows_are_counted_where_the_key_does_not_tell_them_apart(warehouse: Warehouse, ids: str) -> None:
    rows = compared(warehouse, f"from (values {ids}) t(id)", "from (values (1), (2)) t(id)", ["id"])
    assert (rows.key, rows.added, rows.removed) == ((), 0, 1)


def test_a_sample_is_of_the_same_keys_on_both_sides(warehouse: Warehouse) -> None:
    rows = compared(
        warehouse,
        "select range as id, 0 as x from range(1000)",
        "select range as id, 1 as x from range(1000)",
        ["id"],
        10,
    )
    assert (rows.added, rows.removed) == (0, 0)
    assert 50 < rows.changed < 150
    assert [sampling((1000, 90), limit) for limit in (100, 999, 1000)] == [10, 2, 1]


def test_columns_are_compared_by_name_and_type() -> None:
    assert compared_columns({"a": "INTEGER", "b": "DATE"}, {"a": "BIGINT", "c": "DATE"}) == Columns(
        added={"c": "DATE"}, removed={"b": "DATE"}, retyped={"a": ("INTEGER", "BIGINT")}
    )


def model(grain: str, name: str = "m") -> dict[str, Any]:
    meta = {"dagster": {"partitions": {"grain": grain}}}
    config = {"materialized": "incremental", "event_time": "at", "meta": meta}
    return {"unique_id": f"model.p.{name}", "database": "production", "schema": "main", "name": name, "config": config}


def window(warehouse: Warehouse, grain: str, **said: Any) -> Window | None:
    given = {"first": None, "last": None, "days": 2} | said
    return window_of([model("day"), model(grain)], [model("day")], warehouse, **given)


def test_the_window_is_the_last_whole_partitions_that_production_has(warehouse: Warehouse) -> None:
    with pytest.raises(UserError, match="give --from and --to"):
        window(warehouse, "day")
    warehouse.connection.execute(
        "create table production.m as from (values (timestamp '2024-01-20'), (timestamp '2024-03-10 23:59')) t(\"at\")"
    )
    assert window(warehouse, "hour") == Window(date(2024, 3, 9), date(2024, 3, 11))
    assert window(warehouse, "month") == Window(date(2024, 2, 1), date(2024, 3, 1))
    assert window(warehouse, "week") == Window(date(2024, 3, 4), date(2024, 3, 11))
    given = {"first": date(2024, 2, 3), "last": date(2024, 2, 4)}
    assert window(warehouse, "day", **given) == Window(date(2024, 2, 3), date(2024, 2, 5))
    assert window(warehouse, "month", **given) == Window(date(2024, 2, 1), date(2024, 3, 1))
    with pytest.raises(UserError, match="change --from or --to"):
        window(warehouse, "day", first=date(2024, 2, 5), last=date(2024, 2, 3))


def test_a_month_that_has_begun_is_better_than_none(warehouse: Warehouse) -> None:
    warehouse.connection.execute("create table production.m as select timestamp '2024-01-02' as \"at\"")
    assert window(warehouse, "month") == Window(date(2024, 1, 1), date(2024, 2, 1))


def test_a_window_is_of_the_zone_of_the_partitions() -> None:
    day = Window(date(2024, 7, 1), date(2024, 7, 2))
    berlin = Partitions("day", "at", "Europe/Berlin")
    assert "timestamp '2024-06-30 22:00:00'" in day.predicate(berlin, "TIMESTAMP")
    assert day.predicate(berlin, "DATE") == "(\"at\" >= '2024-07-01' and \"at\" < '2024-07-02')"


@pytest.mark.parametrize(
    ("config", "columns", "test", "key"),
    [
        ({"unique_key": ["a", "b"]}, {}, None, ["a", "b"]),
        ({}, {"a": {"name": "a", "constraints": [{"type": "primary_key"}]}}, None, ["a"]),
        ({}, {}, {"column_name": "c", "test_metadata": {"name": "unique", "kwargs": {}}}, ["c"]),
        ({}, {}, {"test_metadata": {"name": "unique_together", "kwargs": {"columns": ["a", "b"]}}}, ["a", "b"]),
        ({}, {}, {"test_metadata": {"name": "not_null", "kwargs": {}}, "column_name": "c"}, []),
    ],
)
def test_keys(config: dict[str, Any], columns: dict[str, Any], test: dict[str, Any] | None, key: list[str]) -> None:
    node = {"unique_id": "model.p.m", "resource_type": "model", "config": config, "columns": columns}
    tests = {"t": {"unique_id": "t", "attached_node": "model.p.m", "config": {}, **test}} if test else {}
    assert list(key_of(node, {"nodes": tests})) == key
    part = {name: {**each, "config": {"where": "a > 1"}} for name, each in tests.items()}
    assert not tests or not key_of(node, {"nodes": part})


@pytest.mark.parametrize(
    ("where", "columns", "is_key"),
    [
        ("__keys_in_window__", ["a"], True),
        ("__window__", ["a", "day"], True),
        ("__window__", ["a"], False),
        ("__keys_in_window__ and a > 1", ["a"], False),
    ],
)
def test_a_test_by_windows_is_one_of_all_rows_where_no_key_is_in_two(
    where: str, columns: list[str], *, is_key: bool
) -> None:
    node = {"unique_id": "model.p.m", "resource_type": "model", "config": {"event_time": "day"}, "columns": {}}
    test = {
        "unique_id": "t",
        "attached_node": "model.p.m",
        "config": {"where": where},
        "test_metadata": {"name": "unique_together", "kwargs": {"columns": columns}},
    }
    assert list(key_of(node, {"nodes": {"t": test}})) == (columns if is_key else [])


def test_a_comment_fits_and_holds_no_markup_of_a_value() -> None:
    rows = Rows(["id"], 0, 0, 3, {"name": 3}, [Example({"id": "<b>|*"}, "changed", ["name"])] * 5, 1)
    models = [
        Model(f"model.p.m{number}", f"m{number}", "table", "unchanged", "success", rows=rows) for number in range(999)
    ]
    report = Report("dbt", None, None, models, [], [])
    whole = as_markdown(report, 10_000_000)
    assert "changed: id &lt;b>\\|\\* (name)" in whole
    for limit in (65_536, 20_000):
        text = as_markdown(report, limit)
        assert len(text) <= limit
        assert "more lines do not fit here." in text


def test_a_profile_writes_one_file_and_reads_the_others(tmp_path: Path) -> None:
    (tmp_path / "dbt_project.yml").write_text("profile: shop")
    output = {"type": "duckdb", "path": "{{ env_var('W') }}", "attach": [{"path": "other.duckdb"}], "threads": 3}
    outputs = {"dev": output, "prod": {"type": "snowflake"}}
    (tmp_path / "profiles.yml").write_text(yaml.safe_dump({"shop": {"target": "dev", "outputs": outputs}}))
    target = Target.of(tmp_path, None, environment={})
    assert target.kind == "file"
    made = yaml.safe_load(target.in_a_file(Path("/ci.duckdb"), Path("/p.duckdb"), "p"))
    assert made["shop"]["outputs"]["dev"] == {
        **output,
        "path": "/ci.duckdb",
        "attach": [
            {"path": "other.duckdb", "read_only": True},
            {"path": "/p.duckdb", "alias": '"p"', "read_only": True},
        ],
    }
    assert production_file(tmp_path, None, environment={"W": "/srv/w.duckdb"}) == Path("/srv/w.duckdb")
    assert production_file(tmp_path, None, environment={}) is None
    assert production_file(tmp_path, "prod", environment={"W": "/srv/w.duckdb"}) is None
    with pytest.raises(UserError, match="is of type snowflake"):
        _ = Target.of(tmp_path, "prod", environment={}).kind
    with pytest.raises(UserError, match="no target none"):
        Target.of(tmp_path, "none", environment={})


def test_a_profile_writes_a_schema_of_its_own(tmp_path: Path) -> None:
    lake = {"path": "ducklake:postgres:dbname=lake", "alias": "lake", "is_ducklake": True}
    outputs = {
        "lake": {"type": "duckdb", "database": "lake", "schema": "main", "attach": [lake, {"path": "other.duckdb"}]},
        "served": {"type": "postgres", "schema": "main", "port": "{{ env_var('P', '5432') | as_number }}"},
        "attached": {"type": "duckdb", "database": "other", "attach": [{"path": "other.duckdb", "alias": "other"}]},
    }
    (tmp_path / "dbt_project.yml").write_text("profile: shop")
    (tmp_path / "profiles.yml").write_text(yaml.safe_dump({"shop": {"outputs": outputs}}))
    kinds = {}
    for name in ("lake", "served"):
        target = Target.of(tmp_path, name, environment={})
        made = yaml.safe_load(target.in_a_schema("ci"))["shop"]["outputs"][name]
        attached = {"attach": [lake, {"path": "other.duckdb", "read_only": True}]} if name == "lake" else {}
        assert made == {**outputs[name], "schema": "ci", **attached}
        kinds[name] = target.kind
    assert kinds == {"lake": "ducklake", "served": "postgres"}
    assert Target.of(tmp_path, "served", environment={}).rendered("port") == "5432"
    with pytest.raises(UserError, match="writes the attached database other"):
        _ = Target.of(tmp_path, "attached", environment={}).kind


def test_what_ci_drops_is_its_own() -> None:
    """A run whose schema begins as that of this one keeps it."""
    with duckdb.connect() as connection:
        connection.execute("attach ':memory:' as lake")
        for _, schema in WHERE:
            connection.execute(f"create schema if not exists lake.{schema}")
        said: list[str] = []
        BesideSchemas(connection, "lake", "headrace_ci_1").drop(said.append)
        left = connection.execute("select schema_name from duckdb_schemas() where database_name = 'lake'").fetchall()
    assert {name for (name,) in left} >= {"headrace_ci_12", "finance"}
    assert not {name for (name,) in left} & {"headrace_ci_1", "headrace_ci_1_finance"}
    assert said == []


OUTSIDE: dict[str, dict[str, Any]] = {
    "a test whose failures are stored": {"resource_type": "test", "config": {"store_failures": True}},
    "a model of a folder that is named as the chosen one": {"fqn": ["p", "orders", "other"]},
    "a model of a schema of its own": {"fqn": ["p", "orders"], "schema": "finance"},
    "a hook of the project": {"resource_type": "operation", "schema": "headrace_ci_1", "config": {}},
    "a hook of a model": {"schema": "headrace_ci_1", "config": {"post-hook": [{"sql": "grant"}]}},
}


@pytest.mark.parametrize("what", OUTSIDE)
def test_what_could_write_production_is_refused(what: str) -> None:
    node = {
        "name": "it",
        "resource_type": "model",
        "fqn": ["p", "orders"],
        "database": "lake",
        "schema": "production",
        "original_file_path": "models/it.sql",
        "config": {"materialized": "table"},
        **OUTSIDE[what],
    }
    chosen = {**node, "fqn": ["p", "orders"], "schema": "headrace_ci_1", "resource_type": "model", "config": {}}
    manifest = {"nodes": {"chosen": chosen, "it": node}}
    with duckdb.connect() as connection:
        beside = BesideSchemas(connection, "lake", "headrace_ci_1")
        with pytest.raises(UserError, match=r"may be production.s|may write production"):
            Choice(manifest, {"nodes": {}}, {"chosen"}, {"chosen"}).refuse_outside(beside, with_hooks=False)
        if "hook" in what:
            Choice(manifest, {"nodes": {}}, {"chosen"}, {"chosen"}).refuse_outside(beside, with_hooks=True)


def test_a_relation_of_production_is_none_that_ci_builds() -> None:
    with duckdb.connect() as connection:
        beside = BesideSchemas(connection, "lake", "headrace_ci_1")
        held = {
            (database, schema): beside.holds({"database": database, "schema": schema}) for database, schema in WHERE
        }
    assert held == WHERE


@pytest.mark.parametrize(
    ("target", "variables", "chosen"),
    [
        ("{{ env_var('TARGET', 'dev') }}", {}, "dev"),
        ("{{ env_var('TARGET', 'dev') }}", {"TARGET": "lake"}, "lake"),
        ("{{ 'lake' if env_var('LAKE').startswith('s3://') else 'dev' }}", {"LAKE": "s3://a"}, "lake"),
        ("{{ env_var('TARGET') }}", {}, "its target reads TARGET, which is not set"),
        ("{{ var('target') }}", {}, "'var' is undefined: choose one with --target"),
        ("{{ dev", {}, "choose one with --target"),
    ],
)
def test_a_default_target_may_be_chosen_by_the_environment(
    tmp_path: Path, target: str, variables: dict[str, str], chosen: str
) -> None:
    (tmp_path / "dbt_project.yml").write_text("profile: shop")
    outputs = {"dev": {"type": "duckdb"}, "lake": {"type": "duckdb"}}
    (tmp_path / "profiles.yml").write_text(yaml.safe_dump({"shop": {"target": target, "outputs": outputs}}))
    if chosen in outputs:
        assert Target.of(tmp_path, None, environment=variables).name == chosen
        return
    with pytest.raises(UserError) as refused:
        Target.of(tmp_path, None, environment=variables)
    assert chosen in refused.value.message
    assert "\n" not in refused.value.message
