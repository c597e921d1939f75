"""dbt's source freshness as asset checks on what reads the sources, and as observations of the sources' own assets.

Not as checks on the sources' own assets, which another location may make: Dagster 1.13.27 asks the location of an asset
for all of its checks in each backfill and in each launch from the UI, and one that another location defines makes
these fail. The observation shows what dbt measured on the source's asset all the same.

A `dagster.FreshnessPolicy` would be another way. It looks at when Dagster last recorded a materialization: an export
that came in time with last week's rows in it is fresh. It knows neither dbt's `loaded_at_field` nor its `filter`. And
it belongs to the spec of the location that materializes the asset, as what the producer promises. What a consumer needs
is measured on the rows that it reads, by dbt itself.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckKey,
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetObservation,
    AssetSelection,
    DefaultScheduleStatus,
    Definitions,
    Failure,
    MetadataValue,
    ScheduleDefinition,
    define_asset_job,
    in_process_executor,
    multi_asset_check,
)
from dagster_dbt import DbtProject

from dagster_dbt_common.assets.group_build import write_pool
from dagster_dbt_common.assets.sources import freshness_of
from dagster_dbt_common.assets.translator import PartitionedDbtTranslator
from dagster_dbt_common.engine.resource import DbtResource
from dagster_dbt_common.partitions.groups import PartitionGroup, PartitionPlan

_MINUTES = {"minute": 1, "hour": 60, "day": 24 * 60}
_CRONS = {60: "0 * * * *", 30: "*/30 * * * *", 15: "*/15 * * * *", 5: "*/5 * * * *"}
_NOTHING_LOADED = 1  # The year that dbt takes for the newest row of a source without rows.


def freshness_definitions(
    project: DbtProject, plan: PartitionPlan, translator: type[PartitionedDbtTranslator], *, name: str
) -> Definitions:
    """Return a check for each source that is read and has thresholds, with their job and their schedule.

    The check `freshness_<source>_<table>` is on the asset that reads the source first, a staging view for one. When it
    runs, the source's own asset gets an observation with the same metadata.

    The job `<name>__freshness` runs one `dbt source freshness`, of exactly the sources whose checks were selected; so
    what pass, warn and error mean is dbt's to say. A failed check blocks nothing: the data is old, not wrong.

    The schedule of that name is on from the start, because a check that somebody has to switch on is missing when it
    is needed, and a measurement is one query a source. It is hourly, or twice in the shortest threshold where that is
    less than two hours, but not oftener than each five minutes.

    Args:
        project: the prepared dbt project.
        plan: its partition plan.
        translator: what says the keys of sources.
        name: the key of the `DbtResource`, and the prefix of the job and the schedule.
    """
    sources = {
        unique_id: props
        for unique_id, props in plan.manifest["sources"].items()
        if _thresholds(props) and _first_reader(plan, unique_id)
    }
    if not sources:
        return Definitions()
    describe = translator(plan, PartitionGroup("sources", None, frozenset(), frozenset()))
    key_of = partial(describe.get_asset_spec, plan.manifest, project=project)
    specs = {
        unique_id: AssetCheckSpec(
            f"freshness_{props['source_name']}_{props['name']}",
            asset=key_of(_first_reader(plan, unique_id)).key,
            description=_promise(props),
        )
        for unique_id, props in sorted(sources.items())
    }
    ids = {spec.key: unique_id for unique_id, spec in specs.items()}

    @multi_asset_check(
        name=f"{name}__freshness_op",
        specs=list(specs.values()),
        can_subset=True,
        required_resource_keys={name},
        pool=write_pool(project, plan),
    )
    def freshness(context: AssetCheckExecutionContext) -> Iterator[AssetCheckResult]:
        dbt: DbtResource = getattr(context.resources, name)
        chosen = {key: ids[key] for key in sorted(context.selected_asset_check_keys, key=str)}
        measured = _measure(dbt, list(chosen.values()))
        for key, unique_id in chosen.items():
            result = _result(key, measured[unique_id])
            observation = AssetObservation(key_of(unique_id).key, result.description, metadata=result.metadata)
            context.op_execution_context.log_event(observation)
            yield result

    job = define_asset_job(
        f"{name}__freshness",
        selection=AssetSelection.checks(freshness),
        description="Measures the age of the sources that have dbt's `freshness`.",
        executor_def=in_process_executor,
    )
    schedule = ScheduleDefinition(
        name=f"{name}__freshness",
        job=job,
        cron_schedule=_cron(sources.values()),
        default_status=DefaultScheduleStatus.RUNNING,
    )
    return Definitions(asset_checks=[freshness], jobs=[job], schedules=[schedule])


def _first_reader(plan: PartitionPlan, source: str) -> str:
    """Return the asset that reads a source, the first one in the order of the graph; empty where there is none."""
    return next((unique_id for unique_id in plan.lineage.order if source in plan.lineage.parents(unique_id)), "")


@dataclass(frozen=True)
class _Measurement:
    """What dbt says of a source: its result in `sources.json`, or why there is none."""

    result: Mapping[str, Any]
    error: str


def _measure(dbt: DbtResource, unique_ids: Sequence[str]) -> Mapping[str, _Measurement]:
    names = " ".join("source:" + ".".join(unique_id.split(".")[1:]) for unique_id in unique_ids)
    invocation = dbt.cli(["source", "freshness", "--select", names], raise_on_error=False)
    errors: dict[str | None, str] = {}
    for event in invocation.stream_raw_events():
        if event.raw_event["info"]["level"] == "error":
            # `sources.json` leaves a source out that could not be measured; the last event of it has dbt's message.
            errors[event.raw_event["data"].get("node_info", {}).get("unique_id")] = event.raw_event["info"]["msg"]
    try:
        results = {result["unique_id"]: result for result in invocation.get_artifact("sources.json")["results"]}
    except FileNotFoundError:
        raise Failure(f"dbt source freshness measured nothing: {errors.get(None, 'it gave no reason')}") from None
    unmeasured = errors.get(None, "dbt did not measure it, and gave no reason")
    return {id_: _Measurement(results.get(id_, {}), errors.get(id_, unmeasured)) for id_ in unique_ids}


def _result(key: AssetCheckKey, measured: _Measurement) -> AssetCheckResult:
    result = measured.result
    if not result:
        return AssetCheckResult(
            asset_key=key.asset_key,
            check_name=key.name,
            passed=False,
            metadata={"dbt/status": "runtime error"},
            description="\n".join(line.strip() for line in measured.error.strip().splitlines()),
        )
    loaded, taken = (datetime.fromisoformat(result[name]) for name in ("max_loaded_at", "snapshotted_at"))
    age = timedelta(seconds=round(result["max_loaded_at_time_ago_in_s"]))
    is_empty = loaded.year == _NOTHING_LOADED
    return AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=result["status"] == "pass",
        severity=AssetCheckSeverity.WARN if result["status"] == "warn" else AssetCheckSeverity.ERROR,
        metadata={
            "dbt/status": result["status"],
            "dbt/snapshotted_at": MetadataValue.timestamp(taken),
            **(
                {}
                if is_empty
                else {
                    "dbt/max_loaded_at": MetadataValue.timestamp(loaded),
                    "dbt/max_loaded_at_time_ago_in_s": result["max_loaded_at_time_ago_in_s"],
                }
            ),
        },
        description="It has no rows." if is_empty else f"The newest row is {age} old.",
    )


def _thresholds(props: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    return {name: value for name, value in freshness_of(props).items() if name in ("warn_after", "error_after")}


def _promise(props: Mapping[str, Any]) -> str:
    words = {"warn_after": "warns", "error_after": "fails"}
    limits = [
        f"{words[name]} where the newest row is older than {threshold['count']} {threshold['period']}(s)"
        for name, threshold in _thresholds(props).items()
    ]
    column = props.get("loaded_at_field")
    return f"dbt's freshness{f' by {column}' if column else ''}: {'; '.join(limits)}."


def _cron(sources: Iterable[Mapping[str, Any]]) -> str:
    shortest = min(
        threshold["count"] * _MINUTES[threshold["period"]]
        for props in sources
        for threshold in _thresholds(props).values()
    )
    return next((cron for minutes, cron in _CRONS.items() if 2 * minutes <= shortest), _CRONS[5])
