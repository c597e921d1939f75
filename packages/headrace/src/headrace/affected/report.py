"""What a change affects, as it is told to people, to programs and to GitHub's workflows."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from headrace.affected.members import Chain


@dataclass(frozen=True)
class Affected:
    """What a change affects.

    Args:
        members: distribution names.
        deploy: code locations.
        dbt: unique ids of nodes, tests and exposures.
        assets: keys, in Dagster's user notation.
        contracts: whether a contract between locations may not hold any more.
        reasons: for each member the ways by which it is touched, the shortest first.
    """

    members: Sequence[str]
    deploy: Sequence[str]
    dbt: Sequence[str]
    assets: Sequence[str]
    contracts: bool
    reasons: Mapping[str, Sequence[Chain]]


def as_json(affected: Affected) -> str:
    """Return it as one JSON object, with the fields of `Affected`."""
    return json.dumps(asdict(affected), indent=2, ensure_ascii=False)


def as_github(affected: Affected) -> str:
    """Return it as lines for `$GITHUB_OUTPUT`: `name=JSON`, for `fromJSON` in a matrix or a condition."""
    values = {name: value for name, value in asdict(affected).items() if name != "reasons"}
    return "\n".join(f"{name}={json.dumps(value, ensure_ascii=True)}" for name, value in values.items())


def as_text(affected: Affected, *, purpose: str | None, explain: bool) -> str:
    """Return it as a list with headings.

    Args:
        affected: what to tell.
        purpose: `test`, `deploy` or `dbt`, where it was asked for that alone.
        explain: whether the ways follow each member.
    """
    lines = list(_lines(affected, purpose, explain=explain))
    return "\n".join(lines) if lines else "nothing is affected"


def _lines(affected: Affected, purpose: str | None, *, explain: bool) -> Iterator[str]:
    if purpose != "dbt" and affected.members:
        yield "members whose deployed code changed:" if purpose == "deploy" else "members to test:"
        for member in affected.members:
            yield f"  {member}"
            if explain:
                yield from (f"    {' → '.join(chain)}" for chain in affected.reasons[member])
    if purpose in (None, "deploy"):
        yield from _section("locations to deploy", affected.deploy)
    if purpose in (None, "dbt"):
        exposures = [unique_id for unique_id in affected.dbt if unique_id.startswith("exposure.")]
        yield from _section("dbt nodes", [unique_id for unique_id in affected.dbt if unique_id not in exposures])
        yield from _section("dbt exposures reached", exposures)
        yield from _section("assets", affected.assets)
    if purpose != "dbt" and affected.contracts:
        yield "contracts: run `headrace contract check`"


def _section(heading: str, names: Sequence[str]) -> Iterator[str]:
    if names:
        yield f"{heading}:"
        yield from (f"  {name}" for name in names)
