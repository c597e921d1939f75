"""What a backfill has done so far, read from Dagster's event log: for the progress, the table and the failures."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dagster import AssetKey, DagsterEvent, DagsterEventType, DagsterInstance, RunsFilter

from headrace.main_job.plan import BuildPlan

BACKFILL_TAG = "dagster/backfill"
_RETRIED_BY_TAG = "dagster/auto_retry_run_id"
_PAGE = 500
_DBT_ERRORS = "Errors parsed from dbt logs:"
_EVENTS = {
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_CHECK_EVALUATION,
    DagsterEventType.STEP_START,
    DagsterEventType.STEP_SUCCESS,
    DagsterEventType.STEP_FAILURE,
    DagsterEventType.RUN_SUCCESS,
    DagsterEventType.RUN_FAILURE,
    DagsterEventType.RUN_CANCELED,
}


@dataclass
class AssetReport:
    """What was built of one asset.

    Args:
        planned: how many partitions there were to build.
        partitions: those that were materialized.
        rows: the rows of the table or view where it says so, of the partitions otherwise; None where nothing says.
        seconds: how long its own statements took.
        checks: the result of each check that ran, the last one of each.
        errors: the names of the checks that found an error.
    """

    planned: int
    partitions: set[str | None] = field(default_factory=set)
    rows: int | None = None
    seconds: float = 0.0
    checks: dict[str, bool] = field(default_factory=dict)
    errors: set[str] = field(default_factory=set)

    @property
    def done(self) -> bool:
        """Return whether all partitions are there."""
        return len(self.partitions) >= self.planned


@dataclass
class RunTimes:
    """When a run did what, in seconds since the epoch.

    Args:
        requested: when it was made.
        first_step: when its first step began.
        last_step: when its last step ended.
        ended: when it ended.
    """

    requested: float
    first_step: float | None = None
    last_step: float | None = None
    ended: float | None = None

    def take(self, event: DagsterEvent, timestamp: float) -> None:
        """Take an event of the run."""
        if event.event_type is DagsterEventType.STEP_START:
            self.first_step = self.first_step or timestamp
        elif event.event_type in (DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE):
            self.last_step = timestamp
        elif event.is_job_event:
            self.ended = timestamp


@dataclass(frozen=True)
class Failure:
    """One reason why something was not built.

    Args:
        what: the asset or the step.
        reason: the message, whose first line says it.
    """

    what: str
    reason: str


class RunReport:
    """Reads the events of a backfill's runs as they are stored.

    Args:
        instance: the Dagster instance.
        backfill_id: the backfill.
        plan: what it builds.

    Attributes:
        tried: the assets of its runs.
        is_canceled: whether one of its runs was canceled.
    """

    def __init__(self, instance: DagsterInstance, backfill_id: str, plan: BuildPlan) -> None:
        self.assets = {key: AssetReport(planned=len(keys)) for key, keys in plan.partitions.items()}
        self.times: dict[str, RunTimes] = {}
        self._instance = instance
        self.tried: set[AssetKey] = set()
        self.is_canceled = False
        self._filter = RunsFilter(tags={BACKFILL_TAG: backfill_id})
        self._backfills = [backfill_id]
        self._cursors: dict[str, str] = {}
        self._partition_rows: dict[AssetKey, dict[str, int]] = defaultdict(dict)
        self._sums: Counter[AssetKey] = Counter()
        self._step_began: dict[tuple[str, str], float] = {}
        self._step_assets: dict[tuple[str, str], set[AssetKey]] = defaultdict(set)
        self._timed: set[tuple[str, AssetKey]] = set()
        self._explained: set[str] = set()
        self._failures: list[tuple[str, Failure]] = []
        self._retried: set[str] = set()

    def follow(self, backfill_id: str) -> None:
        """Read the runs of another backfill too, which builds some of the plan."""
        self._backfills.append(backfill_id)
        self._filter = RunsFilter(tags={BACKFILL_TAG: self._backfills})

    def update(self) -> bool:
        """Read a page of what each run has stored since the last call; return whether there is more.

        Two thousand partitions take a second to read, in which the next run would wait to be launched.
        """
        has_more = False
        records = self._instance.get_run_records(self._filter)
        for record in records:
            run_id = record.dagster_run.run_id
            self.times.setdefault(run_id, RunTimes(record.create_timestamp.timestamp()))
            self.tried |= record.dagster_run.asset_selection or set()
            if _RETRIED_BY_TAG in record.dagster_run.tags:
                self._retried.add(run_id)
            page = self._instance.get_records_for_run(run_id, self._cursors.get(run_id), _EVENTS, limit=_PAGE)
            self._cursors[run_id] = page.cursor
            has_more = has_more or page.has_more
            for stored in page.records:
                if event := stored.event_log_entry.dagster_event:
                    self._take(run_id, event, stored.event_log_entry.timestamp)
        return has_more

    @property
    def failures(self) -> Sequence[Failure]:
        """Return what failed, but for runs that Dagster has begun again: what became of that is told in its place."""
        return [failure for run_id, failure in self._failures if run_id not in self._retried]

    @property
    def partitions_done(self) -> int:
        """Return how many of the planned partitions are there."""
        return sum(len(asset.partitions) for asset in self.assets.values())

    @property
    def assets_done(self) -> int:
        """Return how many assets have all their partitions."""
        return sum(asset.done for asset in self.assets.values())

    @property
    def checks(self) -> Sequence[bool]:
        """Return the last result of each check that ran."""
        return [passed for asset in self.assets.values() for passed in asset.checks.values()]

    def to_dict(self) -> Mapping[str, Any]:
        """Return the table and the failures for a machine."""
        return {
            "assets": [
                {
                    "key": key.to_user_string(),
                    "partitions": len(asset.partitions),
                    "planned": asset.planned,
                    "rows": asset.rows,
                    "seconds": round(asset.seconds, 3),
                    "checks": {"passed": sum(asset.checks.values()), "all": len(asset.checks)},
                }
                for key, asset in self.assets.items()
            ],
            "failures": [{"what": failure.what, "reason": failure.reason} for failure in self.failures],
        }

    def _take(self, run_id: str, event: DagsterEvent, timestamp: float) -> None:
        step = (run_id, event.step_key or "")
        self.times[run_id].take(event, timestamp)
        match event.event_type:
            case DagsterEventType.STEP_START:
                self._step_began[step] = timestamp
            case DagsterEventType.ASSET_MATERIALIZATION:
                self._take_materialization(step, event)
            case DagsterEventType.ASSET_CHECK_EVALUATION:
                check = event.asset_check_evaluation_data
                self._asset(check.asset_key).checks[check.check_name] = check.passed
                if not check.passed and check.severity.value == "ERROR":
                    self._asset(check.asset_key).errors.add(check.check_name)
                    what = f"{check.asset_key.to_user_string()}: check {check.check_name}"
                    self._fail(run_id, what, _check_reason(check.metadata))
            case DagsterEventType.STEP_FAILURE:
                self._end_step(step, timestamp)
                self._fail(run_id, event.step_key or "", _step_reason(event))
                self._explained.add(run_id)
            case DagsterEventType.STEP_SUCCESS:
                self._end_step(step, timestamp)
            case DagsterEventType.RUN_SUCCESS:
                self._explained.add(run_id)
            # One that a step explains, or that had ended well when its process was killed, fails nothing else.
            case DagsterEventType.RUN_FAILURE if run_id not in self._explained or self._has_open_steps(run_id):
                self._fail(run_id, f"run {run_id[:8]}", event.message or "it failed")
            case DagsterEventType.RUN_CANCELED:
                self.is_canceled = True
                self._fail(run_id, f"run {run_id[:8]}", "it was canceled")

    def _fail(self, run_id: str, what: str, reason: str) -> None:
        self._failures.append((run_id, Failure(what, reason)))

    def _take_materialization(self, step: tuple[str, str], event: DagsterEvent) -> None:
        materialization = event.step_materialization_data.materialization
        key, partition = materialization.asset_key, materialization.partition
        asset = self._asset(key)
        asset.partitions.add(partition)
        self._step_assets[step].add(key)
        metadata = {name: value.value for name, value in materialization.metadata.items()}
        partition_rows = metadata.get("dagster/partition_row_count")
        if isinstance(partition_rows, int) and partition is not None:
            rows = self._partition_rows[key]
            self._sums[key] += partition_rows - rows.get(partition, 0)
            rows[partition] = partition_rows
            asset.rows = self._sums[key]
        elif isinstance(of_table := metadata.get("dagster/row_count"), int):
            asset.rows = of_table
        duration = metadata.get("Execution Duration")
        # A run over a range says the same duration on each of its partitions.
        if isinstance(duration, (int, float)) and (step[0], key) not in self._timed:
            self._timed.add((step[0], key))
            asset.seconds += duration

    def _end_step(self, step: tuple[str, str], timestamp: float) -> None:
        assets = self._step_assets.get(step, set())
        began = self._step_began.pop(step, None)
        if len(assets) == 1 and began is not None:
            (key,) = assets
            if (step[0], key) not in self._timed:
                self._asset(key).seconds += timestamp - began

    def _has_open_steps(self, run_id: str) -> bool:
        return any(run == run_id for run, _ in self._step_began)

    def _asset(self, key: AssetKey) -> AssetReport:
        return self.assets.setdefault(key, AssetReport(planned=0))


def _step_reason(event: DagsterEvent) -> str:
    """Return the message of the innermost cause, without the frames: the user's own error, or dbt's."""
    data = event.step_failure_data
    error = data.error
    while error and error.cause:
        error = error.cause
    description = data.user_failure_data.description if data.user_failure_data else None
    message = (description or (error and error.message) or event.message or "no reason was stored").strip()
    _, found, of_dbt = message.partition(_DBT_ERRORS)
    return of_dbt.strip() if found else message


def _check_reason(metadata: Mapping[str, object]) -> str:
    values = {name: getattr(value, "value", value) for name, value in metadata.items()}
    shown = {name: value for name, value in values.items() if name in ("dagster_dbt/failed_row_count", "status")}
    text = ", ".join(f"{name.removeprefix('dagster_dbt/')}: {value}" for name, value in shown.items())
    return text or ", ".join(f"{name}: {value}" for name, value in list(values.items())[:3]) or "it failed"
