"""What Dagster's event log says of a run that ended: its attempts, what failed in it, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from dagster import AssetCheckKey, DagsterEventType, DagsterRunStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from dagster import AssetCheckEvaluation, AssetKey, DagsterEvent, DagsterInstance, DagsterRun

REPEATS = "headrace/repeats"
"""The tag of a run that tries again what failed before and was told then, other than by Dagster's own retries."""

_RETRY_NUMBER = "dagster/retry_number"
_WILL_RETRY = "dagster/will_retry"
_RETRIED_BY = "dagster/auto_retry_run_id"
_PARTITION = "dagster/partition"
_RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
_DBT_ERRORS = "Errors parsed from dbt logs:"


class Retry(Enum):
    """What Dagster does about a failed run, by its tags. Source: `dagster._daemon.auto_run_reexecution`."""

    NONE = "there is no other attempt"
    EXPECTED = "another attempt will come, or it is not decided yet"
    STARTED = "there is another attempt"


@dataclass(frozen=True)
class FailedCheck:
    """A check that did not pass.

    Args:
        key: the check.
        partitions: what it was evaluated on; empty where there are no partitions.
        severity: `WARN` or `ERROR`.
        description: what the check says; empty where it says nothing.
        run_id: the attempt in which it failed.
    """

    key: AssetCheckKey
    partitions: str
    severity: str
    description: str
    run_id: str

    @property
    def name(self) -> str:
        """Return what identifies the failure: it is the same one as long as the check fails on these partitions."""
        return _check_name(self.key, self.partitions)


def retry_of(instance: DagsterInstance, run: DagsterRun) -> Retry:
    """Return whether Dagster's daemon attempts a failed run again."""
    if run.status != DagsterRunStatus.FAILURE:
        return Retry.NONE
    if _RETRIED_BY in run.tags:
        return Retry.STARTED
    # The tag is set a moment after the failure can be read.
    will_retry = run.tags.get(_WILL_RETRY, "true" if instance.run_retries_enabled else "false")
    return Retry.EXPECTED if will_retry == "true" else Retry.NONE


def attempts(instance: DagsterInstance, run: DagsterRun) -> Sequence[DagsterRun]:
    """Return the runs that Dagster retried until it came to this one, the first one first; a rerun by hand is new."""
    found = [run]
    while found[0].parent_run_id and _RETRY_NUMBER in found[0].tags:
        parent = instance.get_run_by_id(found[0].parent_run_id)
        if parent is None:
            break
        found.insert(0, parent)
    return found


def partitions_of(run: DagsterRun) -> str:
    """Return the partition of a run, or the first and the last; nothing where it has none."""
    first, last = (run.tags.get(tag) for tag in _RANGE)
    if first and last and first != last:
        return f"{first} to {last}"
    return first or run.tags.get(_PARTITION, "")


def check_results(
    instance: DagsterInstance, runs: Sequence[DagsterRun], severities: Collection[str]
) -> Mapping[str, FailedCheck | None]:
    """Return the results of checks by name: None is one that passed, or failed with another severity.

    Of several attempts the last one counts that evaluated the check: a retry repeats only the steps that failed. Within
    an attempt a failure counts.
    """
    results: dict[str, FailedCheck | None] = {}
    for run in runs:
        of_run: dict[str, FailedCheck | None] = {}
        for event in _events(instance, run, DagsterEventType.ASSET_CHECK_EVALUATION):
            evaluation = event.asset_check_evaluation_data
            key = AssetCheckKey(evaluation.asset_key, evaluation.check_name)
            partitions = evaluation.partition or partitions_of(run)
            name = _check_name(key, partitions)
            of_run[name] = of_run.get(name) or _failed(evaluation, key, partitions, run, severities)
        results |= of_run
    return results


def failed_assets(instance: DagsterInstance, run: DagsterRun, checks: Sequence[FailedCheck]) -> Collection[AssetKey]:
    """Return the assets that a failed run was to make and did not: those of its failed steps.

    All of the run's where no step failed: then its process died, or never was. Where each was made, those on which a
    check failed; and where none did, all of them: some of their partitions failed.
    """
    steps = {event.step_key for event in _events(instance, run, DagsterEventType.STEP_FAILURE)}
    planned = {
        event.asset_key
        for event in _events(instance, run, DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
        if event.asset_key and (not steps or event.step_key in steps)
    }
    made = {event.asset_key for event in _events(instance, run, DagsterEventType.ASSET_MATERIALIZATION)}
    return planned - made or {check.key.asset_key for check in checks} or planned


def reason_of(instance: DagsterInstance, run: DagsterRun) -> str:
    """Return the first line of the error that failed a run, and how many more steps failed."""
    failures = list(_events(instance, run, DagsterEventType.STEP_FAILURE))
    if failures:
        more = f" (and {len(failures) - 1} more failed steps)" if len(failures) > 1 else ""
        return _step_reason(failures[0]) + more
    ends = [event.message for event in _events(instance, run, DagsterEventType.RUN_FAILURE)]
    return _first_line(next((message for message in ends if message), None) or "no reason was stored")


def _step_reason(event: DagsterEvent) -> str:
    data = event.step_failure_data
    error = data.error
    while error and error.cause:
        error = error.cause
    said = data.user_failure_data.description if data.user_failure_data else None
    message = said or (error and error.message) or event.message or "no reason was stored"
    # dagster-dbt's own first line is that dbt failed.
    return _first_line(message.partition(_DBT_ERRORS)[2] or message)


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:500] if lines else text


def _failed(
    evaluation: AssetCheckEvaluation, key: AssetCheckKey, partitions: str, run: DagsterRun, severities: Collection[str]
) -> FailedCheck | None:
    if evaluation.passed or evaluation.severity.value not in severities:
        return None
    description = _first_line(evaluation.description or "")
    return FailedCheck(key, partitions, evaluation.severity.value, description, run.run_id)


def _check_name(key: AssetCheckKey, partitions: str) -> str:
    return f"{key.to_user_string()}@{partitions}" if partitions else key.to_user_string()


def _events(instance: DagsterInstance, run: DagsterRun, of_type: DagsterEventType) -> Iterator[DagsterEvent]:
    for entry in instance.all_logs(run.run_id, of_type=of_type):
        if entry.dagster_event:
            yield entry.dagster_event
