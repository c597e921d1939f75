"""Two locations in one process: real specs, conditions, evaluator, sensor and event log; runs that build nothing.

The specs are those of `dbt_definitions` over `tests/automation/project`, and of raw tables as another location has
them. What a run would do to the warehouse is left out, so a history of ten runs takes a second.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from dagster_dbt_common.assets.group_build import read_up_to

ORDERS, ITEMS, NAMES = (dg.AssetKey(["raw", name]) for name in ("orders", "items", "names"))
_RANGE_START, _RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"

Partition = str | None


@dataclass(frozen=True)
class Build:
    """A materialization, in the order in which they came.

    Args:
        key: the asset.
        partition: its partition.
    """

    key: dg.AssetKey
    partition: Partition

    def __str__(self) -> str:
        return f"{self.key.to_user_string()}[{self.partition}]" if self.partition else self.key.to_user_string()


@dataclass
class World:
    """The instance, and what makes the next runs fail.

    Args:
        project: the definitions of the dbt project.
        instance: an ephemeral instance.
    """

    project: dg.Definitions
    instance: dg.DagsterInstance
    builds: list[Build] = field(default_factory=list)
    before_build: Callable[[Build], None] = lambda _build: None
    during_build: Callable[[], None] = lambda: None
    failing: dict[dg.AssetKey, int] = field(default_factory=dict)
    bad_days: dict[dg.AssetKey, set[str]] = field(default_factory=lambda: defaultdict(set))
    bad_checks: set[dg.AssetCheckKey] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._cursor: Any = None
        self._sensor_cursor: str | None = None
        self._finer_cursor: str | None = None
        self._run_keys: set[str] = set()
        self.load(self.project)

    def load(self, project: dg.Definitions) -> None:
        """Serve these definitions from now on, as a reload does; the cursors stay."""
        own = [each for each in project.assets or () if isinstance(each, dg.AssetsDefinition)]
        by_name = {each.name.rpartition("__")[2]: each for each in project.sensors or ()}
        self.sensor, self.finer = by_name["reconcile"], by_name["finer"]
        sources = {each.key: each for each in project.assets or () if isinstance(each, dg.AssetSpec)}
        days = sources[ORDERS].partitions_def
        raw = [self._raw(ORDERS, days), self._raw(ITEMS, days), self._raw(NAMES, None)]
        assets = [*raw, *(self._simulated(each) for each in own)]
        self.defs = dg.Definitions(assets=assets, executor=dg.in_process_executor)
        self.job = self.defs.resolve_implicit_global_asset_job_def()
        self.specs = {spec.key: spec for spec in self.defs.resolve_all_asset_specs()}

    @property
    def days(self) -> Sequence[str]:
        """Return the days that have a partition."""
        partitions_def = self.specs[ORDERS].partitions_def
        assert partitions_def is not None
        return partitions_def.get_partition_keys()

    def materialize(self, *keys: dg.AssetKey, partition: Partition = None, last: Partition = None) -> bool:
        """Run these assets together, for a partition or for a range of them; return whether the run succeeded."""
        tags = {_RANGE_START: partition, _RANGE_END: last} if partition and last else {}
        result = self.job.execute_in_process(
            instance=self.instance,
            asset_selection=list(keys),
            partition_key=partition if last is None else None,
            tags=tags,
            raise_on_error=False,
        )
        return result.success

    def tick(self) -> Sequence[Build]:
        """Evaluate the conditions, run what they request, and return it."""
        result = dg.evaluate_automation_conditions(
            self.defs, instance=self.instance, asset_selection=dg.AssetSelection.all(), cursor=self._cursor
        )
        self._cursor = result.cursor
        requested: dict[Partition, list[dg.AssetKey]] = defaultdict(list)
        for key, spec in self.specs.items():
            if spec.automation_condition is not None:
                for partition in result.get_requested_partitions(key):
                    requested[partition].append(key)
        for partition, keys in requested.items():
            # Dagster puts into one run what has the same partitions definition.
            by_partitions: dict[Any, list[dg.AssetKey]] = defaultdict(list)
            for key in keys:
                by_partitions[self.specs[key].partitions_def].append(key)
            for together in by_partitions.values():
                self.materialize(*together, partition=partition)
        return [Build(key, partition) for partition, keys in requested.items() for key in keys]

    def look(self) -> Sequence[dg.RunRequest]:
        """Let the healing sensor look once, run what it requests, and return it."""
        context = dg.build_sensor_context(instance=self.instance, cursor=self._sensor_cursor)
        result: Any = self.sensor(context)
        if result.cursor is not None:
            self._sensor_cursor = result.cursor
        return self._ran(result)

    def look_at_finer(self) -> Sequence[dg.RunRequest]:
        """Let the sensor of finer partitions look once, run what it requests, and return it."""
        context = dg.build_sensor_context(instance=self.instance, cursor=self._finer_cursor)
        result: Any = self.finer(context)
        if isinstance(result, dg.SkipReason):
            return []
        if result.cursor is not None:
            self._finer_cursor = result.cursor
        return self._ran(result)

    def _ran(self, result: Any) -> Sequence[dg.RunRequest]:
        requests = [each for each in result.run_requests or () if each.run_key not in self._run_keys]
        for request in requests:
            self._run_keys.add(request.run_key)
            self.materialize(
                *request.asset_selection, partition=request.tags.get(_RANGE_START), last=request.tags.get(_RANGE_END)
            )
        return requests

    def rest(self, rounds: int = 60) -> None:
        """Tick and look until nothing happens any more, and nothing waits for another try."""
        for _ in range(rounds):
            happened = [*self.tick(), *self.look_at_finer(), *self.look()]
            if not happened and self._sensor_cursor == "{}":
                return
        raise AssertionError(f"no rest after {rounds} rounds: the sensor still sees {self._sensor_cursor}")

    def _build(self, key: dg.AssetKey, partition: Partition) -> None:
        build = Build(key, partition)
        self.before_build(build)
        self.builds.append(build)

    def _raw(self, key: dg.AssetKey, days: Any) -> dg.AssetsDefinition:
        """A raw table with a blocking check, which fails as long as a loaded day is bad."""

        @dg.multi_asset(
            name=key.to_python_identifier(),
            specs=[dg.AssetSpec(key, partitions_def=days)],
            check_specs=[dg.AssetCheckSpec("good", asset=key, blocking=True)],
            backfill_policy=dg.BackfillPolicy.single_run(),
        )
        def load(context: dg.AssetExecutionContext) -> Iterator[Any]:
            for partition in context.partition_keys if days else [None]:
                self._build(key, partition)
            good = not self.bad_days[key]
            yield dg.MaterializeResult(key, check_results=[dg.AssetCheckResult(passed=good, check_name="good")])

        return load

    def _simulated(self, assets_def: dg.AssetsDefinition) -> dg.AssetsDefinition:
        partitions_def = assets_def.partitions_def
        order = [spec.key for spec in assets_def.specs]

        @dg.multi_asset(
            name=assets_def.op.name,
            specs=list(assets_def.specs),
            check_specs=list(assets_def.check_specs),
            partitions_def=partitions_def,
            can_subset=True,
            backfill_policy=dg.BackfillPolicy.single_run(),
        )
        def build(context: dg.AssetExecutionContext) -> Iterator[Any]:
            read = read_up_to(context.instance)
            self.during_build()
            for key in _in_order(order, assets_def, context.selected_asset_keys):
                if self.failing.get(key):
                    self.failing[key] -= 1
                    raise dg.Failure(f"{key.to_user_string()} fails")
                for partition in context.partition_keys if partitions_def else [None]:
                    self._build(key, partition)
                yield dg.MaterializeResult(key, tags=read)
                for check in context.selected_asset_check_keys:
                    if check.asset_key == key:
                        yield dg.AssetCheckResult(
                            passed=check not in self.bad_checks, asset_key=key, check_name=check.name
                        )

        return build


def _in_order(keys: Sequence[dg.AssetKey], assets_def: dg.AssetsDefinition, selected: Any) -> Iterator[dg.AssetKey]:
    """Yield the selected assets, each after those of them that it reads."""
    deps = {spec.key: {dep.asset_key for dep in spec.deps} for spec in assets_def.specs}
    done: set[dg.AssetKey] = set()
    waiting = [key for key in keys if key in selected]
    while waiting:
        ready = next(key for key in waiting if not _above(key, deps) & (set(waiting) - {key}))
        waiting.remove(ready)
        done.add(ready)
        yield ready


def _above(key: dg.AssetKey, deps: Mapping[dg.AssetKey, set[dg.AssetKey]]) -> set[dg.AssetKey]:
    found: set[dg.AssetKey] = set()
    waiting = [key]
    while waiting:
        for parent in deps.get(waiting.pop(), ()):
            if parent not in found:
                found.add(parent)
                waiting.append(parent)
    return found
