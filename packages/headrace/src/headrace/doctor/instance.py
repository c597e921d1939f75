"""The Dagster instance: its configuration, runs whose process is gone, and pools."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

from headrace.deployed.run_health import run_health
from headrace.deployed.run_process import RunProcess
from headrace.doctor.finding import Finding, one_line
from headrace.workspace import EVENT_LOG_CONFIG

_WITH_PROCESS = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
_FREE = "`headrace init` ends what is dead, and frees what it holds"
_POOLS = "`concurrency: {pools: {granularity: op, default_limit: 1}}` in"


def check_instance(home: Path, pools: Sequence[str]) -> Iterator[Finding]:
    """Look at the instance of a folder, which nothing is made in.

    Args:
        home: the folder, `DAGSTER_HOME`.
        pools: the pools that a DuckDB file is behind.
    """
    file = home / "dagster.yaml"
    if not file.is_file():
        says = f"{home} has no dagster.yaml yet: the first run makes it" if home.is_dir() else f"{home} is not made yet"
        yield Finding("instance", "ok", says)
        return
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        has_runs = not isinstance(config, dict) or "storage" in config or (home / "history" / "runs.db").is_file()
        if not has_runs:
            # Opening it would make its databases.
            yield Finding("instance", "ok", f"{file}: no run yet")
            yield from _of_file(file, config)
            return
        with DagsterInstance.from_config(str(home)) as instance:
            findings = [*_dead_runs(instance), *_pools(instance, file, pools), *_event_log(instance, file)]
    except Exception as error:
        # An instance raises what its storage, its launcher or its schema raise: all of it is named in the file.
        yield Finding("instance", "wrong", f"{file}: {one_line(error)}", "correct the file, or restore what it names")
        return
    yield Finding("instance", "ok", f"{file}: it opens")
    yield from findings


def _of_file(file: Path, config: dict[str, object]) -> Iterator[Finding]:
    concurrency = config.get("concurrency")
    pools = concurrency.get("pools") if isinstance(concurrency, dict) else None
    said = pools if isinstance(pools, dict) else {}
    if said.get("granularity") == "op" and said.get("default_limit") == 1:
        yield Finding("pools", "ok", "one op at a time in each pool")
    else:
        yield Finding("pools", "wrong", f"{file}: pools are not of one op at a time", f"{_POOLS} {file}")


def _event_log(instance: DagsterInstance, file: Path) -> Iterator[Finding]:
    if type(instance.event_log_storage).__name__ == "SqliteEventLogStorage":
        says = f"{file}: Dagster's own: ranges of partitions are recorded ten times faster with `{EVENT_LOG_CONFIG}`"
        yield Finding("event log", "ok", says)


def _dead_runs(instance: DagsterInstance) -> Iterator[Finding]:
    dead = False
    for run in instance.get_runs(RunsFilter(statuses=_WITH_PROCESS)):
        health, why = run_health(instance, run, RunProcess.of(instance, run.run_id))
        # A run that ended well meanwhile has said so before its process went.
        now = instance.get_run_by_id(run.run_id)
        if now is None or now.is_finished or health == "lives":
            continue
        dead = True
        if health == "gone":
            yield Finding("runs", "wrong", f"run {run.run_id[:8]} is {now.status.value}, and {why}", _FREE)
        else:
            yield Finding("runs", "unknown", f"run {run.run_id[:8]} is {now.status.value}: {why}")
    for run_id in sorted(instance.event_log_storage.get_concurrency_run_ids()):
        holder = instance.get_run_by_id(run_id)
        if holder is None or holder.is_finished:
            dead = True
            yield Finding("runs", "wrong", f"run {run_id[:8]} has ended, and holds a slot of a pool", _FREE)
    if not dead:
        yield Finding("runs", "ok", "no run is dead")


def _pools(instance: DagsterInstance, file: Path, pools: Sequence[str]) -> Iterator[Finding]:
    said = instance.get_concurrency_config().pool_config
    granularity = said.pool_granularity.value if said.pool_granularity else "not set"
    if granularity != "op":
        yield Finding("pools", "wrong", f"{file}: the granularity of pools is {granularity}", f"{_POOLS} {file}")
    limits = {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits() if not pool.from_default}
    wrong = False
    for pool in pools:
        limit = limits.get(pool, said.default_pool_limit)
        if limit != 1:
            wrong = True
            says = f"the limit of the pool {pool} is {limit or 'not set'}, and its DuckDB file has one writer"
            mend = f"dagster instance concurrency set {pool} 1" if pool in limits else f"{_POOLS} {file}"
            yield Finding("pools", "wrong", says, mend)
    if granularity == "op" and not wrong:
        yield Finding("pools", "ok", f"one op at a time in {', '.join(pools) or 'each pool'}")
