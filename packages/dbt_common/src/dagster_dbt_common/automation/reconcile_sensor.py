"""The sensor that heals what the automation conditions miss."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from dagster import (
    AssetCheckKey,
    AssetKey,
    AssetRecordsFilter,
    AssetSelection,
    DagsterEventType,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    TimeWindowPartitionsDefinition,
    sensor,
)

from dagster_dbt_common.automation.reconcile import Behind, Follower, History, all_behind
from dagster_dbt_common.partitions.run_tags import FULL_REFRESH, READ_UP_TO
from headrace_staleness import AllWindows, Beginning, Made

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dagster import DagsterInstance, EventLogRecord

    from headrace_staleness import Partition

INTERVAL_SECONDS = 60
"""Longer than two evaluations of the conditions, so that they have had their turn when the sensor looks again."""

_TRIES = (2, 6, 14)
"""At which look at the same thing it is requested: at the second, and twice again if that did not help."""

_LATER_TRIES = 60
"""After the last of these it is requested at each sixtieth look, once an hour: its model may have been mended."""

REPEATS = "headrace/repeats"
"""The tag of the runs that try again what was requested before: whoever tells of failures has told of the first."""

_RANGES_A_LOOK = 20
_RECORDS_A_LOOK = 1000
_BACKFILLS_A_LOOK = 20
_BACKFILL_GOES_ON = ("REQUESTED", "CANCELING")
_LONGEST_SCHEDULE = timedelta(days=366)
_ASSET_JOB = "__ASSET_JOB"
# https://docs.dagster.io/guides/build/partitions-and-backfills/backfilling-data: a run over a range of partitions
_RANGE_START, _RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
_LOOKS_THAT_WAIT = 12
_NOTHING = Behind({}, frozenset())
_FINISHED = (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)
_UNFINISHED = [status for status in DagsterRunStatus if status not in _FINISHED]


@dataclass(frozen=True)
class _Sight:
    """How often the same thing was seen."""

    mark: str
    looks: int


def reconcile_sensor(name: str, followers: Sequence[Follower]) -> SensorDefinition:
    """Return the sensor that requests what has stayed behind its upstreams.

    Conditions remember what was updated since they last looked. It heals what that memory loses: an upstream updated
    after its reader inside one tick, or while its reader was being built; all that was pending when a reload changed a
    condition or the graph; what was updated while no daemon ran, or before a model had a condition; a run that failed,
    was cancelled, or was never launched. It has no such memory: it compares the storage ids of materializations, and
    requests a partition that is older than one that it reads.

    It looks once a minute and gives the conditions their turn: it requests what two looks found behind for the same
    reason, with no run or backfill of it or its upstreams under way, no upstream behind, and no blocking check failed
    in the run that made an upstream. Where that does not help, a failing model for one, it tries again after 4 and 8
    further looks, and then once an hour. An asset that follows a schedule is behind from its next tick
    on. Neighbouring partitions are one run.

    Args:
        name: the sensor's name.
        followers: the assets, each after what it is made from.
    """
    keys = [follower.asset.key for follower in followers]
    windows, histories = AllWindows(), Histories()

    @sensor(
        name=name,
        asset_selection=AssetSelection.assets(*keys),
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        description="Requests what is still behind its upstreams after the automation conditions were evaluated.",
    )
    def reconcile(context: SensorEvaluationContext) -> SensorResult | SkipReason:
        seen = {key: _Sight(*sight) for key, sight in json.loads(context.cursor or "{}").items()}
        windows.refresh()
        behind = all_behind(followers, histories.read(context.instance, followers), windows)
        gates = _Gates(context.instance, now=datetime.now(UTC))
        sights: dict[AssetKey, _Sight] = {}
        due: list[Follower] = []
        for follower in followers:
            found = behind.get(follower.asset.key)
            if found is None or not found.partitions:
                continue
            sight = seen.get(follower.asset.key.to_user_string())
            looks = sight.looks if sight and sight.mark == found.mark else 0
            if gates.open(follower):
                looks += 1
                if looks in _TRIES or (looks > _TRIES[-1] and looks % _LATER_TRIES == 0):
                    due.append(follower)
            sights[follower.asset.key] = _Sight(found.mark, looks)
        cursor = json.dumps({key.to_user_string(): (sight.mark, sight.looks) for key, sight in sights.items()})
        requests = list(_requests(name, due, behind, sights, windows))
        if not requests:
            return SensorResult(skip_reason=SkipReason(_reason(behind, sights)), cursor=cursor)
        return SensorResult(run_requests=requests, cursor=cursor)

    return reconcile


def finer_sensor(name: str, followers: Sequence[Follower], interval_seconds: int) -> SensorDefinition:
    """Return the sensor that requests the assets whose partitions are finer than those of what they read.

    An updated day is 24 hours of such an asset. Conditions would request these as a backfill, at which Dagster's daemon
    looks each 30 seconds; here they are one run over their range. It looks at the newest materialization of what is
    read, and at more only where that is another one than at the last look. As the sensor that heals it waits for what
    is under way, for an upstream that is behind, for blocking checks and for a tick of the asset's schedule; what it
    has requested once, and what waits for longer than a minute, is that sensor's.

    Args:
        name: the sensor's name.
        followers: all assets that follow, each after what it is made from.
        interval_seconds: how often it looks.
    """
    by_key = {follower.asset.key: follower for follower in followers}
    finer = [follower for follower in followers if follower.is_finer]
    read = {each.key for follower in finer for each in follower.upstreams}
    # Whether what they read is behind itself depends on what that reads.
    above = set(read)
    while more := {each.key for key in above if key in by_key for each in by_key[key].upstreams} - above:
        above |= more
    bearing = [follower for follower in followers if follower in finer or follower.asset.key in above]
    windows, histories = AllWindows(), Histories()

    @sensor(
        name=name,
        asset_selection=AssetSelection.assets(*(follower.asset.key for follower in finer)),
        minimum_interval_seconds=interval_seconds,
        default_status=DefaultSensorStatus.RUNNING,
        description="Requests the partitions that are finer than those of what they read, a range in one run.",
    )
    def finer_partitions(context: SensorEvaluationContext) -> SensorResult | SkipReason:
        records = [
            record.asset_entry.last_materialization_record for record in context.instance.get_asset_records([*read])
        ]
        newest = str(max((record.storage_id for record in records if record), default=0))
        seen, _, looks = (context.cursor or "").partition("+")
        if seen == newest and not looks:
            return SkipReason("nothing that is read was updated")
        gates = _Gates(context.instance, now=datetime.now(UTC))
        ready = [follower for follower in finer if gates.open(follower)]
        behind: Mapping[AssetKey, Behind] = {}
        if ready:
            windows.refresh()
            behind = all_behind(bearing, histories.read(context.instance, bearing), windows)
        due = [each for each in ready if each.asset.key in behind and behind[each.asset.key].partitions]
        waits = [each for each in finer if each not in ready or (behind.get(each.asset.key) or _NOTHING).blocked]
        sights = {each.asset.key: _Sight(behind[each.asset.key].mark, 0) for each in due}
        requests = list(_requests(name, due, behind, sights, windows))
        # What waits is looked at again, a minute long; a request that is made again has the same run key.
        looked = int(looks or 0) + 1 if seen == newest else 1
        cursor = f"{newest}+{looked}" if waits and looked < _LOOKS_THAT_WAIT else newest
        if not requests:
            reason = f"waits: {', '.join(each.asset.key.to_user_string() for each in waits)}" if waits else "up to date"
            return SensorResult(skip_reason=SkipReason(reason), cursor=cursor)
        return SensorResult(run_requests=requests, cursor=cursor)

    return finer_partitions


class Histories:
    """Reads what an instance knows of the assets, and remembers which materializations each build could have read."""

    def __init__(self) -> None:
        self._storage = ""
        self._made_by_id: dict[AssetKey, dict[int, Made]] = defaultdict(dict)

    def read(self, instance: DagsterInstance, followers: Sequence[Follower]) -> History:
        """Return the latest materialization of each partition of the assets and of their upstreams."""
        # Each storage has an id of its own; the ids of events in another one mean something else.
        storage = getattr(instance.run_storage, "get_run_storage_id", str)()
        if storage != self._storage:
            self._storage = storage
            self._made_by_id.clear()
        stored = {each.key: each for follower in followers for each in (follower.asset, *follower.upstreams)}
        made: dict[AssetKey, Mapping[Partition, Made]] = {}
        unsaid = set()
        for record in instance.get_asset_records(list(stored)):
            key, last = record.asset_entry.asset_key, record.asset_entry.last_materialization_record
            if last is None:
                continue
            self._learn(instance, key)
            if stored[key].partitions_def is None:
                made[key] = {None: self._made(key, last.storage_id)}
                if last.partition_key is not None:
                    unsaid.add(key)
            else:
                ids = instance.get_latest_storage_id_by_partition(key, DagsterEventType.ASSET_MATERIALIZATION)
                made[key] = {partition: self._made(key, storage_id) for partition, storage_id in ids.items()}
        return History(made, frozenset(unsaid))

    def _made(self, key: AssetKey, storage_id: int) -> Made:
        return self._made_by_id[key].get(storage_id) or Made(storage_id)

    def _learn(self, instance: DagsterInstance, key: AssetKey) -> None:
        """Read the tags of the materializations since the last time, of the newest thousand.

        An older one, as in a range of more partitions or before a restart, counts as read up to itself.
        """
        known = self._made_by_id[key]
        since = AssetRecordsFilter(key, after_storage_id=max(known, default=None))
        for record in instance.fetch_materializations(since, limit=_RECORDS_A_LOOK).records:
            tags = (record.asset_materialization.tags if record.asset_materialization else None) or {}
            began = Beginning(int(tags[READ_UP_TO]), record.run_id) if READ_UP_TO in tags else None
            known[record.storage_id] = Made(record.storage_id, began)


class _Gates:
    """What holds back an asset that is behind.

    Args:
        instance: the instance.
        now: the time of the look.
    """

    def __init__(self, instance: DagsterInstance, now: datetime) -> None:
        self._instance = instance
        self._now = now
        self._in_flight = frozenset(in_flight(instance))
        self._latest: dict[AssetKey, EventLogRecord | None] = {}
        self._passed: dict[AssetKey, bool] = {}

    def open(self, follower: Follower) -> bool:
        """Return whether the asset may be built now."""
        above = [each.key for each in follower.upstreams] + list(follower.views)
        if None in self._in_flight or self._in_flight.intersection([follower.asset.key, *above]):
            return False
        return self._is_time(follower) and all(self._has_passed(key) for key in above)

    def _is_time(self, follower: Follower) -> bool:
        """Return whether a tick of the asset's schedule has passed since its upstreams were updated."""
        if follower.schedule is None:
            return True
        latest = [record for each in follower.upstreams if (record := self._latest_of(each.key))]
        updated = max((record.timestamp for record in latest), default=0.0)
        return _last_tick(*follower.schedule, self._now) > updated

    def _has_passed(self, key: AssetKey) -> bool:
        """Return whether the blocking checks that ran with the latest materialization of an asset have passed since.

        Which checks an asset of another location has, its own run says.
        """
        if key not in self._passed:
            record = self._latest_of(key)
            entries = (
                self._instance.all_logs(record.run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION)
                if record and record.run_id
                else ()
            )
            evaluations = [entry.dagster_event.asset_check_evaluation_data for entry in entries if entry.dagster_event]
            self._passed[key] = all(
                _is_passed(self._instance, AssetCheckKey(key, evaluation.check_name))
                for evaluation in evaluations
                if evaluation.asset_key == key and evaluation.blocking
            )
        return self._passed[key]

    def _latest_of(self, key: AssetKey) -> EventLogRecord | None:
        if key not in self._latest:
            records = self._instance.fetch_materializations(key, limit=1).records
            self._latest[key] = records[0] if records else None
        return self._latest[key]


def _is_passed(instance: DagsterInstance, check: AssetCheckKey) -> bool:
    record = instance.get_latest_asset_check_evaluation_record(check)
    return record is not None and record.status.value == "SUCCEEDED"


def in_flight(instance: DagsterInstance) -> Iterator[AssetKey | None]:
    """Yield the assets that runs and backfills are building or about to build; None for all of them."""
    for run in instance.get_runs(RunsFilter(statuses=_UNFINISHED)):
        is_of_assets = run.job_name.startswith(_ASSET_JOB) or run.job_name.endswith(FULL_REFRESH)
        yield from run.asset_selection or ([None] if is_of_assets else ())
    for backfill in instance.get_backfills(limit=_BACKFILLS_A_LOOK):
        if backfill.is_asset_backfill and backfill.status.value in _BACKFILL_GOES_ON:
            yield from backfill.asset_selection or ()


def _last_tick(cron: str, timezone: str, now: datetime) -> float:
    """Return when a schedule last ticked, in seconds since the epoch."""
    ticks = TimeWindowPartitionsDefinition(
        start=now - _LONGEST_SCHEDULE, cron_schedule=cron, timezone=timezone, fmt="%Y-%m-%dT%H:%M:%S%z"
    )
    last = ticks.get_last_partition_key()
    return ticks.time_window_for_partition_key(last).end.timestamp() if last else 0.0


def _requests(
    name: str,
    due: Sequence[Follower],
    behind: Mapping[AssetKey, Behind],
    sights: Mapping[AssetKey, _Sight],
    windows: AllWindows,
) -> Iterator[RunRequest]:
    """Yield a run for each range of neighbouring partitions, with all assets that lack exactly these."""
    together: dict[tuple[TimeWindowPartitionsDefinition | None, str], list[AssetKey]] = defaultdict(list)
    for follower in due:
        key = follower.asset.key
        together[follower.asset.partitions_def, behind[key].mark].append(key)
    for (definition, mark), keys in together.items():
        looks = max(sights[key].looks for key in keys)
        run_key = f"{name}:{'+'.join(sorted(key.to_user_string() for key in keys))}:{mark}:{looks}"
        repeats = {REPEATS: "true"} if looks > _TRIES[0] else {}
        of_asset = windows.of(definition)
        if of_asset is None:
            yield RunRequest(run_key=run_key, asset_selection=keys, tags=repeats)
            continue
        # What is left of very many ranges has another mark at the next look.
        for first, last in of_asset.ranges(behind[keys[0]].partitions)[:_RANGES_A_LOOK]:
            tags = {_RANGE_START: first, _RANGE_END: last, **repeats}
            yield RunRequest(run_key=f"{run_key}:{first}:{last}", asset_selection=keys, tags=tags)


def _reason(behind: Mapping[AssetKey, Behind], sights: Mapping[AssetKey, _Sight]) -> str:
    if not behind:
        return "everything is up to date with its upstreams"
    waiting = [key.to_user_string() for key in behind if key not in sights or sights[key].looks < _TRIES[0]]
    tried = [key.to_user_string() for key, sight in sights.items() if sight.looks >= _TRIES[0]]
    parts = [f"behind, left to the automation conditions until the next tick: {', '.join(waiting)}"] if waiting else []
    parts += [f"behind, requested before: {', '.join(tried)}: see their runs"] if tried else []
    return "; ".join(parts)
