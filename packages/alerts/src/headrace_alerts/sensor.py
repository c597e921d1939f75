"""A sensor that tells of runs that ended: reads which did, sends what is to be said of them, and moves its cursor.

Not Dagster's own run status sensor, which moves its cursor on when its function raises: an alert that could not be sent
would be lost. Here it stays in the cursor until each of its destinations has it.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from dagster import (
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DefaultSensorStatus,
    RunsFilter,
    RunStatusChangeRecordsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
)

from headrace_alerts.destinations import Destinations
from headrace_alerts.outbox import DeliveryError, Message, deliver

End = Literal[DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_CANCELED]
"""How a run ends."""

Memory = dict[str, Any]
"""What a sensor remembers from tick to tick, as JSON."""

Reader = Callable[[SensorEvaluationContext, Sequence[DagsterRun], Memory, Destinations], Sequence[Message]]
"""Returns what is to be told of runs that ended, the first one first, and changes the memory."""

_RUNS = 50  # How many ends of each kind a tick reads; the next one, half a minute later, reads the next.
_SECONDS_TO_STATUS = 60.0
"""How long an end waits for the status of its run: Dagster stores the event first, and whether it retries last."""


@dataclass(frozen=True)
class Cursor:
    """How far a sensor has come.

    Args:
        after: the storage id of the last event that was read, by kind. Each kind has its own: between the queries for
            two kinds an event may be stored.
        memory: what the sensor remembers.
        outbox: what was not delivered yet.
    """

    after: Mapping[str, int]
    memory: Memory
    outbox: Sequence[Message]

    @classmethod
    def now(cls, instance: DagsterInstance, ends: Sequence[End]) -> Self:
        """Return the cursor of a sensor that is new: what ended before is no news."""
        newest = {end: instance.fetch_run_status_changes(RunStatusChangeRecordsFilter(end), limit=1) for end in ends}
        after = {end.value: page.records[0].storage_id if page.records else 0 for end, page in newest.items()}
        return cls(after, {}, [])

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the cursor that `to_text` has written."""
        content = json.loads(text)
        return cls(content["after"], content["memory"], [Message.from_json(message) for message in content["outbox"]])

    def to_text(self) -> str:
        """Return the cursor as Dagster keeps it."""
        outbox = [message.to_json() for message in self.outbox]
        return json.dumps({"after": self.after, "memory": self.memory, "outbox": outbox}, sort_keys=True)


def alert_sensor(
    name: str,
    *,
    ends: Sequence[End],
    read: Reader,
    description: str,
    interval: int,
    default_status: DefaultSensorStatus,
) -> SensorDefinition:
    """Return a sensor over the runs of its own code location.

    Args:
        name: its name.
        ends: which ends of runs it reads.
        read: what it tells of them.
        description: what it is for.
        interval: the least number of seconds between two ticks.
        default_status: whether it is on from the start.
    """

    def evaluate(context: SensorEvaluationContext) -> SkipReason:
        return _tick(context, ends, read)

    return SensorDefinition(
        name=name,
        evaluation_fn=evaluate,
        minimum_interval_seconds=interval,
        default_status=default_status,
        description=description,
    )


def _tick(context: SensorEvaluationContext, ends: Sequence[End], read: Reader) -> SkipReason:
    """Run a tick; return what it did, in a line for the UI.

    Raises:
        AlertSettingError: `HEADRACE_ALERTS` is unusable; nothing was read.
        DeliveryError: a destination did not take its messages again. The tick that keeps them first does not raise: it
            would forget them.
    """
    destinations = Destinations.from_environment()
    if context.cursor is None:
        context.update_cursor(Cursor.now(context.instance, ends).to_text())
        return SkipReason("reports failures from now on")
    before = Cursor.from_text(context.cursor)
    after, ended = _ended(context, ends, before.after, time.time())
    memory = json.loads(json.dumps(before.memory))
    messages = read(context, ended, memory, destinations or Destinations({}))
    if destinations is None:
        context.update_cursor(Cursor(after, memory, []).to_text())
        return SkipReason("no destination: HEADRACE_ALERTS is not set, so nobody is alerted to failures")
    delivery = deliver([*before.outbox, *messages], destinations)
    cursor = Cursor(after, memory, delivery.kept).to_text()
    faults = "; ".join(delivery.faults)
    if delivery.faults and cursor == before.to_text():
        raise DeliveryError(f"{len(delivery.kept)} alerts wait: {faults}")
    context.update_cursor(cursor)
    waits = f", {len(delivery.kept)} wait: {faults or 'the tick ended'}" if delivery.kept else ""
    return SkipReason(f"{delivery.sent} alerts sent{waits}")


def _ended(
    context: SensorEvaluationContext, ends: Sequence[End], after: Mapping[str, int], now: float
) -> tuple[Mapping[str, int], Sequence[DagsterRun]]:
    pages = {
        end.value: context.instance.fetch_run_status_changes(
            RunStatusChangeRecordsFilter(end, after_storage_id=after.get(end.value, 0)), limit=_RUNS, ascending=True
        ).records
        for end in ends
    }
    run_ids = {record.event_log_entry.run_id for records in pages.values() for record in records}
    found = context.instance.get_run_records(RunsFilter(run_ids=list(run_ids))) if run_ids else []
    runs = {record.dagster_run.run_id: record.dagster_run for record in found}
    newest = dict(after)
    ended: dict[int, DagsterRun] = {}
    for end, records in pages.items():
        for record in records:
            run = runs.get(record.event_log_entry.run_id)
            # A clock that was set back does not make it wait until that time is there again.
            if run and not run.is_finished and abs(now - record.timestamp) < _SECONDS_TO_STATUS:
                break  # with what is after it, for the next tick
            newest[end] = record.storage_id
            if run and _is_own(context, run):
                ended[record.storage_id] = run
    return newest, [run for _, run in sorted(ended.items())]


def _is_own(context: SensorEvaluationContext, run: DagsterRun) -> bool:
    """Return whether a run is of the sensor's code location, as Dagster's run status sensors decide it."""
    own = context.code_location_origin.location_name if context.code_location_origin else None
    origin = run.remote_job_origin.repository_origin if run.remote_job_origin else None
    if origin is None:
        return own is None
    return (own, context.repository_name) == (origin.code_location_origin.location_name, origin.repository_name)
