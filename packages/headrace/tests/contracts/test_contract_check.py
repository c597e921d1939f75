"""What is found between contracts, and what is not: each finding, each harmless change, and random worlds."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.contracts.check import check_together
from headrace.contracts.contract import Asked, Column, Consumed, Contract, PartitionMapping, Produced, TimePartitions
from headrace.contracts.deploys import check_against

DAYS = TimePartitions("day", datetime(2024, 1, 1, tzinfo=UTC), "UTC")
TABLES = "ingest/tables.py:7"
YAML = "dbt/raw.yml:9"

COLUMNS = (Column("id", "varchar", nullable=False), Column("total", "bigint"), Column("at", "timestamp[us]"))
EXPECTED = (Column("id", "text"), Column("total", "int64"), Column("AT", "timestamp"))


def produced(**changes: Any) -> Produced:
    return replace(Produced("raw/orders", DAYS, COLUMNS, ("not_empty",), TABLES), **changes)


def consumed(**changes: Any) -> Consumed:
    asked = (Asked("orders", DAYS, PartitionMapping("virtual")),)
    told = Consumed("raw/orders", None, EXPECTED, None, loader=None, stub=False, asked=asked, file=YAML)
    return replace(told, **changes)


def ingest(*assets: Produced, location: str = "ingest") -> Contract:
    return Contract(1, location, assets, ())


def analytics(*assets: Consumed, location: str = "analytics") -> Contract:
    return Contract(1, location, (), assets)


def found(*contracts: Contract) -> list[tuple[str, str | None]]:
    return [(finding.kind, finding.column) for finding in check_together(contracts)]


def only(*contracts: Contract) -> str:
    (finding,) = check_together(contracts)
    return str(finding)


def columns(**types: str | None) -> tuple[Column, ...]:
    return tuple(Column(name, kind) for name, kind in types.items())


def test_what_holds() -> None:
    assert check_together([ingest(produced()), analytics(consumed())]) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"columns": (*COLUMNS, Column("new", "varchar"))},
        {"columns": COLUMNS[::-1]},
        {"columns": (COLUMNS[0], Column("total", "integer"), COLUMNS[2])},
        {"columns": (COLUMNS[0], Column("total", None), COLUMNS[2])},
        {"columns": (*COLUMNS[:2], Column("at", "date"))},
        {"blocking_checks": ("not_empty", "keys_unique")},
        {"partitions": replace(DAYS, start=datetime(2023, 1, 1, tzinfo=UTC))},
        {"partitions": replace(DAYS, end_offset=1)},
        {"file": "elsewhere.py:1"},
    ],
)
def test_what_a_producer_may_change(changes: dict[str, Any]) -> None:
    before, after = ingest(produced()), ingest(produced(**changes))
    reader = analytics(consumed(partitions=DAYS))
    assert check_together([after, reader]) == []
    assert check_against([after], {"ingest": before, "analytics": reader}, whole=False) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"columns": EXPECTED[:1]},
        {"columns": None},
        {"columns": columns(id=None)},
        {"columns": columns(total="decimal(21,2)")},
        {"partitions": DAYS},
        {"freshness": {"warn_after": {"count": 1, "period": "day"}}},
        {"asked": ()},
        {"stub": True},
        {"loader": "somebody"},
    ],
)
def test_what_a_consumer_may_change(changes: dict[str, Any]) -> None:
    assert check_together([ingest(produced()), analytics(consumed(**changes))]) == []


def test_a_source_without_a_producer() -> None:
    assert only(ingest(produced(key="raw/order")), analytics(consumed())) == (
        "raw/orders: analytics (dbt/raw.yml:9) reads it for orders, no location makes it: is it raw/order now? correct "
        "the key, add the asset, or name its writer outside of Dagster as `loader`"
    )
    assert found(analytics(consumed(loader="fivetran"))) == []
    assert found(analytics(consumed(stub=True))) == [("stub", None)]
    assert "and no location describes it" in only(analytics(consumed(stub=True)))


def test_two_producers() -> None:
    other = ingest(produced(file="export.py:3"), location="reports")
    assert only(ingest(produced()), other, analytics(consumed())) == (
        "raw/orders: ingest (ingest/tables.py:7) and reports (export.py:3) both make it: keep it in one of them, and "
        "give the other's another key"
    )


def test_a_missing_column() -> None:
    assert only(ingest(produced(columns=COLUMNS[:2])), analytics(consumed())) == (
        "raw/orders: ingest (ingest/tables.py:7) has no column AT, and analytics (dbt/raw.yml:9) expects it: "
        "provide it, or remove it from analytics first"
    )


def test_a_renamed_column() -> None:
    renamed = (*COLUMNS[:2], Column("ordered_at", "timestamp"))
    assert only(ingest(produced(columns=renamed)), analytics(consumed())) == (
        "raw/orders: ingest (ingest/tables.py:7) has no column AT, and analytics (dbt/raw.yml:9) expects it; renamed "
        "to ordered_at?: provide both until analytics reads ordered_at"
    )
    # Of another type, one of two, or for one of two: nobody can say.
    for others in (
        (*COLUMNS[:2], Column("ordered_at", "date")),
        (*COLUMNS[:2], Column("ordered_at", "timestamp"), Column("paid_at", "timestamp")),
    ):
        assert found(ingest(produced(columns=others)), analytics(consumed())) == [("missing column", "AT")]
    # Of several, the one that is called nearly the same.
    several = (COLUMNS[0], Column("tip", "bigint"), Column("total_cents", "bigint"), COLUMNS[2])
    assert "; renamed to total_cents?" in only(ingest(produced(columns=several)), analytics(consumed()))
    both = (*EXPECTED, Column("sent", "timestamp"))
    assert found(ingest(produced(columns=renamed)), analytics(consumed(columns=both))) == [
        ("missing column", "AT"),
        ("missing column", "sent"),
    ]


def test_a_retyped_column() -> None:
    retyped = (COLUMNS[0], Column("total", "double"), COLUMNS[2])
    assert only(ingest(produced(columns=retyped)), analytics(consumed())) == (
        "raw/orders: ingest (ingest/tables.py:7) gives total as double, which does not fit into the int64 that "
        "analytics (dbt/raw.yml:9) expects: give the new type as a new column, and keep this one until analytics has "
        "moved"
    )
    narrow = (EXPECTED[0], Column("total", "integer"))
    assert found(ingest(produced()), analytics(consumed(columns=narrow))) == [("retyped column", "total")]


def test_nulls_where_none_are_expected() -> None:
    strict = (Column("id", "varchar"), Column("total", "bigint", nullable=False))
    assert found(ingest(produced()), analytics(consumed(columns=strict))) == [("nullable column", "total")]


def test_a_producer_that_tells_no_columns() -> None:
    assert found(ingest(produced(columns=None)), analytics(consumed())) == [("no columns", None)]
    assert found(ingest(produced(columns=None)), analytics(consumed(columns=None))) == []


def test_partitions_that_do_not_map() -> None:
    later = produced(partitions=replace(DAYS, start=datetime(2024, 2, 1, tzinfo=UTC)))
    readers = tuple(Asked(name, DAYS, PartitionMapping("virtual")) for name in ("items", "orders", "tweets"))
    assert only(ingest(later), analytics(consumed(asked=readers))) == (
        "raw/orders: ingest (ingest/tables.py:7) starts at 2024-02-01, and items reads it from 2024-01-01 in analytics "
        "(dbt/raw.yml:9), as do 2 more readers: give ingest partitions that fit, or move items with them"
    )
    assert only(ingest(produced(partitions=replace(DAYS, grain="hour"))), analytics(consumed(partitions=DAYS))) == (
        "raw/orders: ingest (ingest/tables.py:7) is by hour, and is expected by day in analytics (dbt/raw.yml:9): give "
        "ingest those partitions, or change the config of the source and its readers together"
    )
    oslo = produced(partitions=replace(DAYS, timezone="Europe/Oslo"))
    assert found(ingest(oslo), analytics(consumed())) == [("timezone", "orders")]


def test_each_location_is_deployed_among_the_old_others() -> None:
    old = {"ingest": ingest(produced()), "analytics": analytics(consumed())}
    more = (*COLUMNS, Column("tip", "bigint"))
    new = [ingest(produced(columns=more)), analytics(consumed(columns=(*EXPECTED, Column("tip", "bigint"))))]
    assert check_together(new) == []
    (finding,) = check_against(new, old, whole=True)
    assert (finding.kind, finding.column, finding.action) == (
        "missing column",
        "tip",
        "deploy ingest first: in this workspace the two fit",
    )
    assert check_against(new[:1], old, whole=False) == []
    assert [finding.kind for finding in check_against(new[1:], old, whole=False)] == ["missing column"]
    # And back again: the reader first.
    now = {contract.location: contract for contract in new}
    (finding,) = check_against(list(old.values()), now, whole=True)
    assert finding.action == "deploy analytics first: in this workspace the two fit"
    assert check_against([old["analytics"]], now, whole=False) == []


def test_a_column_that_is_renamed_on_both_sides_at_once() -> None:
    old = {"ingest": ingest(produced()), "analytics": analytics(consumed())}
    new = [
        ingest(produced(columns=(*COLUMNS[:2], Column("ordered_at", "timestamp")))),
        analytics(consumed(columns=(*EXPECTED[:2], Column("ordered_at", "timestamp")))),
    ]
    findings = check_against(new, old, whole=True)
    assert [(finding.kind, finding.column) for finding in findings] == [
        ("renamed column", "AT"),
        ("renamed column", "ordered_at"),
    ]
    assert {finding.action.partition(":")[0] for finding in findings} == {
        "neither analytics nor ingest can go first",
        "neither ingest nor analytics can go first",
    }


def test_an_asset_that_is_gone_breaks_its_deployed_readers() -> None:
    old = {"ingest": ingest(produced()), "analytics": analytics(consumed())}
    (finding,) = check_against([ingest()], old, whole=False)
    assert (finding.kind, finding.consumer) == ("no producer", "analytics")
    (finding,) = check_against([ingest(), analytics()], old, whole=True)
    assert finding.action == "deploy analytics first: in this workspace the two fit"
    assert check_against([ingest()], {"ingest": ingest(produced())}, whole=True) == []


def test_a_blocking_check_that_was_promised() -> None:
    old = {"ingest": ingest(produced()), "analytics": analytics(consumed())}
    new = ingest(produced(blocking_checks=()))
    for candidates, whole in (([new], False), ([new, old["analytics"]], True)):
        (finding,) = check_against(candidates, old, whole=whole)
        assert str(finding) == (
            "raw/orders: ingest (ingest/tables.py:7) has promised the blocking check not_empty to analytics "
            "(dbt/raw.yml:9), and it is gone: restore it, or agree on it with the team of analytics"
        )
    assert check_against([new], {"ingest": old["ingest"]}, whole=True) == []


def test_what_does_not_hold_between_others_is_not_the_deploys_fault() -> None:
    broken = analytics(consumed(key="raw/nothing"), location="reports")
    old = {"ingest": ingest(produced()), "analytics": analytics(consumed()), "reports": broken}
    assert check_against([ingest(produced())], old, whole=False) == []
    assert [finding.consumer for finding in check_against([broken], old, whole=False)] == ["reports"]
    # A location that is not of this workspace counts in the end.
    assert [finding.consumer for finding in check_against([ingest(produced())], old, whole=True)] == ["reports"]


def test_a_location_that_was_never_deployed_has_only_to_fit_in() -> None:
    old = {"ingest": ingest(produced())}
    assert check_against([analytics(consumed())], old, whole=False) == []
    late = analytics(consumed(columns=columns(tip="bigint")))
    assert [finding.column for finding in check_against([late], old, whole=False)] == ["tip"]


KINDS = ["varchar", "bigint", "double", "date", "timestamp", "boolean", "bigint[]", None]
keys = st.sampled_from([f"raw/{name}" for name in "abcdef"])
some_columns = st.dictionaries(st.sampled_from("pqrstuv"), st.sampled_from(KINDS)).map(
    lambda types: tuple(Column(name, kind) for name, kind in sorted(types.items()))
)
some_partitions = st.sampled_from([None, DAYS, replace(DAYS, grain="hour"), replace(DAYS, timezone="Europe/Oslo")])
promises = st.dictionaries(keys, st.tuples(some_partitions, some_columns), max_size=6)


@st.composite
def worlds(draw: st.DrawFn) -> list[Contract]:
    """Draw two producers of different keys, and a reader of some of their columns and partitions."""
    told = draw(promises)
    assets = [
        Produced(key, partitions, given, tuple(draw(st.sets(st.sampled_from("xyz")))), f"{key}.py:1")
        for key, (partitions, given) in sorted(told.items())
    ]
    cut = draw(st.integers(0, len(assets)))
    reads = tuple(
        consumed(
            key=asset.key,
            partitions=draw(st.sampled_from([None, asset.partitions])),
            columns=tuple(column for column in asset.columns or () if draw(st.booleans())),
            asked=(Asked("reader", draw(st.sampled_from([None, asset.partitions])), PartitionMapping("virtual")),),
        )
        for asset in assets
        if draw(st.booleans())
    )
    return [ingest(*assets[:cut], location="one"), ingest(*assets[cut:], location="two"), analytics(*reads)]


@given(worlds())
def test_a_world_that_expects_what_it_gives_holds_and_deploys_onto_itself(world: list[Contract]) -> None:
    deployed = {contract.location: contract for contract in world}
    assert check_together(world) == []
    assert check_against(world, deployed, whole=True) == []
    for contract in world:
        assert check_against([contract], deployed, whole=False) == []


@given(worlds(), worlds())
def test_a_deploy_breaks_what_does_not_hold_between_it_and_the_old_others(
    old: list[Contract], new: list[Contract]
) -> None:
    deployed = {contract.location: contract for contract in old}
    for contract in new:
        mixed = [contract, *(other for other in old if other.location != contract.location)]
        alone = check_against([contract], deployed, whole=False)
        assert {finding.subject for finding in alone if finding.kind != "blocking check"} == {
            finding.subject for finding in check_together(mixed)
        }


@given(worlds(), st.data())
def test_each_column_that_is_dropped_or_retyped_is_found(world: list[Contract], data: st.DataObject) -> None:
    producers, reader = world[:2], world[2]
    expectations = [(read.key, column) for read in reader.consumes for column in read.columns or ()]
    if not expectations:
        return
    key, column = data.draw(st.sampled_from(expectations))
    retype = data.draw(st.booleans()) and column.type is not None
    other = "blob" if retype else None

    def changed(asset: Produced) -> Produced:
        if asset.key != key:
            return asset
        rest = tuple(one for one in asset.columns or () if one.name != column.name)
        return replace(asset, columns=(*rest, Column(column.name, other)) if retype else rest)

    after = [replace(producer, produces=tuple(map(changed, producer.produces))) for producer in producers]
    findings = check_together([*after, reader])
    assert [(finding.key, finding.column) for finding in findings] == [(key, column.name)]
    assert findings[0].kind in ({"retyped column"} if retype else {"missing column", "renamed column"})
