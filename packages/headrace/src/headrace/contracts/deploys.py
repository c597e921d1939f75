"""What would not hold while locations are deployed one at a time: each new one among those that are deployed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from headrace.contracts.check import Expectation, Finding, Promise, Subject, check_together, unmet
from headrace.contracts.contract import Contract


def check_against(
    candidates: Sequence[Contract], deployed: Mapping[str, Contract], *, whole: bool
) -> Sequence[Finding]:
    """Return what would not hold after the deploy of one location, for each of the candidates alone.

    Locations are deployed one at a time: until the next one is, a new location meets the old others. So each candidate
    must give what the deployed consumers expect and need only what the deployed producers give, and keep the blocking
    checks of what they read. What does not hold between the deployed others is not its fault. A location that was
    never deployed has only to fit in.

    Args:
        candidates: the new contracts.
        deployed: what is deployed, by location.
        whole: whether the candidates are all that will change. Then they must fit in the end too, and what holds in the
            end is a matter of the order of deploys.
    """
    names = {candidate.location for candidate in candidates}
    end = [*candidates, *(contract for name, contract in deployed.items() if name not in names)] if whole else []
    at_last = {finding.subject: finding for finding in check_together(end)}
    before = {finding.subject for finding in check_together(deployed.values())}
    found: list[tuple[Contract, Finding]] = []
    for candidate in candidates:
        former = deployed.get(candidate.location)
        others = [contract for contract in deployed.values() if contract.location != candidate.location]
        findings = [*check_together([*others, candidate]), *(_lost_checks(former, candidate, others) if former else ())]
        found.extend(
            (candidate, finding)
            for finding in findings
            if candidate.location in (finding.producer, finding.consumer) or finding.subject not in before
        )
    return [*at_last.values(), *_in_order([(c, f) for c, f in found if f.subject not in at_last], end)]


def _in_order(found: Sequence[tuple[Contract, Finding]], end: Sequence[Contract]) -> Sequence[Finding]:
    """Return the findings, those that the right order of deploys avoids with that order."""
    makers = {produced.key: contract.location for contract in end for produced in contract.produces}
    first: dict[Finding, tuple[str, str]] = {}
    for candidate, finding in found:
        is_reader = finding.consumer == candidate.location
        other = (finding.producer or makers.get(finding.key)) if is_reader else finding.consumer
        # A blocking check that is gone stays gone.
        if end and other and finding.kind != "blocking check":
            first[finding] = (other, candidate.location)
    ordered: dict[Subject, Finding] = {}
    for _, finding in found:
        if finding in first:
            other, name = first[finding]
            action = f"deploy {other} first: in this workspace the two fit"
            if (name, other) in first.values():
                action = f"neither {other} nor {name} can go first: keep both columns or keys until both have moved"
            finding = replace(finding, action=action)  # noqa: PLW2901
        ordered.setdefault(finding.subject, finding)
    return list(ordered.values())


def _lost_checks(former: Contract, candidate: Contract, others: Sequence[Contract]) -> Iterator[Finding]:
    """Return the blocking checks that are gone from assets that deployed locations read."""
    promised = {produced.key: set(produced.blocking_checks) for produced in former.produces}
    for produced in candidate.produces:
        gone = sorted(promised.get(produced.key, set()) - set(produced.blocking_checks))
        for contract in others:
            for consumed in contract.consumes:
                if consumed.key == produced.key:
                    promise = Promise(candidate.location, produced)
                    expectation = Expectation(contract.location, consumed)
                    for check in gone:
                        problem = f"{promise} has promised the blocking check {check} to {expectation}, and it is gone"
                        action = f"restore it, or agree on it with the team of {contract.location}"
                        yield unmet(
                            "blocking check", promise, expectation, column=check, problem=problem, action=action
                        )
