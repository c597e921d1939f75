"""What does not hold between locations: pure comparison of what they promise with what they expect of each other."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from headrace.contracts.column_types import fits
from headrace.contracts.contract import Asked, Column, Consumed, Contract, Produced
from headrace.contracts.partitions import Misfit, expectation_misfit, misfit
from headrace.locations.duckdb_files import SharedFile

Kind = Literal[
    "no producer",
    "stub",
    "two producers",
    "no columns",
    "missing column",
    "renamed column",
    "retyped column",
    "nullable column",
    "timezone",
    "start",
    "grain",
    "blocking check",
    "one DuckDB file",
]

Subject = tuple[Kind, str, str | None, str]
"""What makes two findings the same: its kind, the asset, the column and the consumer."""


@dataclass(frozen=True)
class Finding:
    """Something that does not hold.

    Args:
        kind: what it is.
        key: the asset that it is about.
        column: the column, the check or the reader that it is about.
        producer: the location that makes the asset, where there is one.
        promised_in: the producer's file and line.
        consumer: the location that expects something, or the second producer.
        expected_in: the consumer's file and line.
        problem: what is, and what is expected.
        action: what to do.
    """

    kind: Kind
    key: str
    column: str | None
    producer: str | None
    promised_in: str | None
    consumer: str
    expected_in: str
    problem: str
    action: str

    def __str__(self) -> str:
        """Return the one line that a user reads."""
        return f"{self.key}: {self.problem}: {self.action}"

    @property
    def subject(self) -> Subject:
        """Return what makes it the same finding wherever it is found."""
        return (self.kind, self.key, self.column, self.consumer)


def check_together(contracts: Iterable[Contract]) -> Sequence[Finding]:
    """Return what does not hold between locations that run together, in order of their keys."""
    world = sorted(contracts, key=lambda contract: contract.location)
    made: dict[str, list[Promise]] = defaultdict(list)
    for contract in world:
        for produced in contract.produces:
            made[produced.key].append(Promise(contract.location, produced))
    found = [_two_producers(*promises[:2]) for promises in made.values() if len(promises) > 1]
    for contract in world:
        for consumed in contract.consumes:
            expectation = Expectation(contract.location, consumed)
            if consumed.key in made:
                found.extend(_unmet(made[consumed.key][0], expectation))
            elif consumed.loader is None:
                found.append(_no_producer(expectation, made.keys()))
    return sorted(found, key=lambda finding: (finding.key, finding.column or "", finding.consumer, finding.kind))


def check_files(files: Iterable[SharedFile]) -> Sequence[Finding]:
    """Return the DuckDB files of this machine that two locations write; a file stands for the asset."""
    return [
        Finding(
            kind="one DuckDB file",
            key=file.path,
            column=None,
            producer=file.locations[0],
            promised_in=None,
            consumer=file.locations[-1],
            expected_in=file.path,
            problem=file.problem,
            action=file.action,
        )
        for file in files
    ]


@dataclass(frozen=True)
class Promise:
    """An asset, with the location that makes it."""

    location: str
    asset: Produced

    def __str__(self) -> str:
        return f"{self.location} ({self.asset.file})"


@dataclass(frozen=True)
class Expectation:
    """An asset, with the location that reads it."""

    location: str
    asset: Consumed

    def __str__(self) -> str:
        return f"{self.location} ({self.asset.file})"


def unmet(
    kind: Kind, promise: Promise, expectation: Expectation, *, column: str | None, problem: str, action: str
) -> Finding:
    """Return the finding that a location does not give what another one expects of it."""
    return Finding(
        kind=kind,
        key=promise.asset.key,
        column=column,
        producer=promise.location,
        promised_in=promise.asset.file,
        consumer=expectation.location,
        expected_in=expectation.asset.file,
        problem=problem,
        action=action,
    )


def _two_producers(one: Promise, other: Promise) -> Finding:
    return Finding(
        kind="two producers",
        key=one.asset.key,
        column=None,
        producer=one.location,
        promised_in=one.asset.file,
        consumer=other.location,
        expected_in=other.asset.file,
        problem=f"{one} and {other} both make it",
        action="keep it in one of them, and give the other's another key",
    )


def _no_producer(expectation: Expectation, keys: Collection[str]) -> Finding:
    consumed = expectation.asset
    near = get_close_matches(consumed.key, sorted(keys), 1)
    hint = f"is it {near[0]} now? " if near else ""
    readers = ", ".join(asked.by for asked in consumed.asked)
    described = "" if not consumed.stub else ", and no location describes it"
    return Finding(
        kind="stub" if consumed.stub else "no producer",
        key=consumed.key,
        column=None,
        producer=None,
        promised_in=None,
        consumer=expectation.location,
        expected_in=consumed.file,
        problem=f"{expectation} reads it{f' for {readers}' if readers else ''}, no location makes it{described}",
        action=f"{hint}correct the key, add the asset, or name its writer outside of Dagster as `loader`",
    )


def _unmet(promise: Promise, expectation: Expectation) -> Iterator[Finding]:
    yield from _unmet_columns(promise, expectation)
    asset, promised = expectation.asset, promise.asset.partitions
    whole = expectation_misfit(asset.partitions, promised) if asset.partitions else None
    if whole:
        action = (
            f"give {promise.location} those partitions, or change the config of the source and its readers together"
        )
        yield unmet(
            whole.kind,
            promise,
            expectation,
            column=None,
            problem=f"{promise} {whole.reason} in {expectation}",
            action=action,
        )
        return
    by_kind: dict[str, list[tuple[Asked, Misfit]]] = defaultdict(list)
    for asked in asset.asked:
        if wrong := misfit(asked, promised):
            by_kind[wrong.kind].append((asked, wrong))
    for (asked, wrong), *others in by_kind.values():
        more = f", as do {len(others)} more readers" if others else ""
        action = f"give {promise.location} partitions that fit, or move {asked.by} with them"
        problem = f"{promise} {wrong.reason} in {expectation}{more}"
        yield unmet(wrong.kind, promise, expectation, column=asked.by, problem=problem, action=action)


def _unmet_columns(promise: Promise, expectation: Expectation) -> Iterator[Finding]:
    expected = expectation.asset.columns or ()
    if promise.asset.columns is None:
        if expected:
            problem = f"{promise} declares no columns, and {expectation} expects {len(expected)}"
            action = "add `dagster/column_schema` to its metadata"
            yield unmet("no columns", promise, expectation, column=None, problem=problem, action=action)
        return
    given = {column.name.lower(): column for column in promise.asset.columns}
    wanted = {column.name.lower(): column for column in expected}
    missing = [column for name, column in wanted.items() if name not in given]
    new = [column for name, column in given.items() if name not in wanted]
    for column in missing:
        yield _missing(column, [c for c in missing if _alike(c, column)], new, promise, expectation)
    for name, column in wanted.items():
        if name in given:
            yield from _unmet_column(given[name], column, promise, expectation)


def _missing(
    column: Column, alike: Sequence[Column], new: Sequence[Column], promise: Promise, expectation: Expectation
) -> Finding:
    candidates = [other.name for other in new if _alike(other, column)]
    if len(candidates) > 1 or len(alike) > 1:
        candidates = get_close_matches(column.name, candidates, 1)
    problem = f"{promise} has no column {column.name}, and {expectation} expects it"
    if candidates:
        problem += f"; renamed to {candidates[0]}?"
        action = f"provide both until {expectation.location} reads {candidates[0]}"
        return unmet("renamed column", promise, expectation, column=column.name, problem=problem, action=action)
    action = f"provide it, or remove it from {expectation.location} first"
    return unmet("missing column", promise, expectation, column=column.name, problem=problem, action=action)


def _alike(one: Column, other: Column) -> bool:
    return one.type is not None and other.type is not None and fits(one.type, other.type) and fits(other.type, one.type)


def _unmet_column(given: Column, wanted: Column, promise: Promise, expectation: Expectation) -> Iterator[Finding]:
    if given.type and wanted.type and not fits(given.type, wanted.type):
        problem = (
            f"{promise} gives {given.name} as {given.type}, which does not fit into the {wanted.type} that "
            f"{expectation} expects"
        )
        action = f"give the new type as a new column, and keep this one until {expectation.location} has moved"
        yield unmet("retyped column", promise, expectation, column=wanted.name, problem=problem, action=action)
    if given.nullable and not wanted.nullable:
        problem = f"{promise} may have nulls in {given.name}, and {expectation} expects none"
        yield unmet(
            "nullable column",
            promise,
            expectation,
            column=wanted.name,
            problem=problem,
            action="promise no nulls, or expect them",
        )
