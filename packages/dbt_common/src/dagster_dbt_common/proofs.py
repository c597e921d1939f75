"""The proof of the promise on a target that a team has: models of its own, built in it in every way, and taken away.

A partition that is built twice, late, out of order or as part of a range has the rows of a full build. This builds four
kinds of models by real runs into a schema that it makes and drops, and compares ids with those of its own rows.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import dagster as dg
import yaml

from dagster_dbt_common.definitions import dbt_definitions
from dagster_dbt_common.errors import DbtConfigError
from dagster_dbt_common.partitions.config import partition_config
from dagster_dbt_common.project.fingerprint import MACROS_DIR, MACROS_VARIABLE
from dagster_dbt_common.project.prepared import prepared_project

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from dagster_dbt_common.engine.resource import DbtResource

_NAME = "headrace_check"
_START = datetime(2024, 1, 30, tzinfo=UTC)
_STEP = timedelta(minutes=90)
_ROWS = 64
_LATE, _TAKEN_BACK = 20, 21  # both of the second day, and each of an hour of its own
_VISITS = """
{{ config(materialized='table', event_time='ts') }}
select id, cast(ts as timestamp) as ts, cast(on_day as date) as on_day
from (
    {% for number in range(ROWS) -%}
    {%- set ts = modules.datetime.datetime(2024, 1, 30) + modules.datetime.timedelta(minutes=90 * number) -%}
    select {{ number }} as id, '{{ ts }}' as ts, '{{ ts.date() }}' as on_day{{ ' union all' if not loop.last }}
    {% endfor %}
) as visits
where id not in ({{ var('gone', [-1]) | join(', ') }})
"""
_DROP = """
{% macro drop_schema_of_check(name) %}
    {# Spark has no databases. #}
    {% do adapter.drop_schema(api.Relation.create(database=target.database or none, schema=name)) %}
{% endmacro %}
"""


@dataclass(frozen=True)
class _Kind:
    """A model, and the partition that is built alone: that of the second day, or of an hour in it."""

    name: str
    config: str
    window: str
    grain: str

    @property
    def sql(self) -> str:
        config = f"{{{{ config(materialized='incremental', {self.config}) }}}}"
        return f"{config}\nselect id, ts, on_day from {{{{ ref('visits') }}}} {self.window}"


def _of_window(name: str, grain: str, column: str) -> _Kind:
    meta = f"meta=fromyaml(\"{{dagster: {{partitions: {{grain: {grain}, start: '2024-01-30'}}}}}}\")"
    config = f"incremental_strategy='delete_window+insert', event_time='{column}', {meta}"
    return _Kind(name, config, f"where {{{{ in_window('{column}') }}}}", grain)


_KINDS = (
    _of_window("days_of_timestamps", "day", "ts"),
    _of_window("hours_of_timestamps", "hour", "ts"),
    _of_window("months_of_dates", "month", "on_day"),
    _Kind(
        "batches_of_days",
        "incremental_strategy='microbatch', event_time='ts', batch_size='day', begin='2024-01-30', lookback=0",
        "",
        "day",
    ),
)


class Proof(NamedTuple):
    """What came of a model that was built in one way.

    Args:
        model: the kind of model.
        way: how it was built.
        says: nothing where its rows are those of a full build; else what is wrong.
    """

    model: str
    way: str
    says: str


def prove(project_dir: str | Path, *, profile: str | None = None, target: str | None = None) -> Iterator[Proof]:
    """Yield the proofs on the target of a project, as they are made.

    Args:
        project_dir: the folder of `dbt_project.yml`, whose profile is taken.
        profile: a profile other than the project's.
        target: a target other than the profile's default.

    Raises:
        DbtConfigError: the project cannot be parsed, or dbt cannot write there.
    """
    project = prepared_project(project_dir, profile=profile, target=target)
    named = yaml.safe_load((project.project_dir / "dbt_project.yml").read_text(encoding="utf-8"))
    schema = f"check_{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory(prefix="headrace-check-") as folder:
        root = Path(folder)
        for name, text in {
            "dbt_project.yml": json.dumps(
                {
                    "name": _NAME,
                    "profile": project.profile or named["profile"],
                    "macro-paths": ["macros", str(MACROS_DIR)],
                    "models": {_NAME: {"+schema": schema}},
                    "flags": {"send_anonymous_usage_stats": False},
                }
            ),
            "macros/drop.sql": _DROP,
            "models/visits.sql": _VISITS.replace("ROWS", str(_ROWS)),
            **{f"models/{kind.name}.sql": kind.sql for kind in _KINDS},
        }.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        shutil.copy(Path(project.profiles_dir) / "profiles.yml", root)
        check = _Check(root, schema, target)
        try:
            for kind in _KINDS:
                yield from check.of(kind)
        finally:
            check.drop()


class _Check:
    """The throwaway project in its target.

    Args:
        root: the folder of the project.
        schema: how the name of the schema ends that is made for it, and dropped.
        target: a target other than the profile's default.
    """

    def __init__(self, root: Path, schema: str, target: str | None) -> None:
        self._root, self._schema = root, schema
        self._options = ["--target", target] if target else []
        self._definitions = dbt_definitions(root, target=target)
        self._assets = [asset for asset in self._definitions.assets or () if isinstance(asset, dg.AssetsDefinition)]
        (self._dbt,) = (self._definitions.resources or {}).values()
        self._manifest: Mapping[str, Any] = json.loads(
            prepared_project(root, target=target).manifest_path.read_text(encoding="utf-8")
        )

    def of(self, kind: _Kind) -> Iterator[Proof]:
        """Yield the proofs of a kind."""
        late, taken = {_LATE}, {_TAKEN_BACK}
        day = {number for number in range(_ROWS) if self._place(kind, number) == self._place(kind, _LATE)}
        alone = self._partition(kind, _LATE)
        whole = (self._partition(kind, 0), self._partition(kind, _ROWS - 1))
        with dg.DagsterInstance.ephemeral() as instance:
            ways: Sequence[tuple[str, Collection[int], tuple[str, str], Collection[int]]] = (
                ("first, alone", late, (alone, alone), day - late),
                ("again", late, (alone, alone), day - late),
                ("in a range", late, whole, set(range(_ROWS)) - late),
                ("after a late row", (), (alone, alone), set(range(_ROWS))),
                ("after a row was taken back", taken, (alone, alone), set(range(_ROWS)) - (taken & day)),
                ("after all rows were taken back", day, (alone, alone), set(range(_ROWS)) - day),
            )
            for way, gone, (first, last), expected in ways:
                self._dbt_by_hand("run", "--select", "visits", "--vars", json.dumps({"gone": [-1, *gone]}))
                yield Proof(kind.name, way, self._built(instance, kind, first, last) or self._compared(kind, expected))

    def drop(self) -> None:
        """Drop the schema, with what is in it."""
        for name in {node["schema"] for node in self._manifest["nodes"].values()}:
            if not name.endswith(self._schema):
                raise DbtConfigError(f"{name} is not the schema of this check: it is left as it is")
            self._dbt_by_hand("run-operation", "drop_schema_of_check", "--args", json.dumps({"name": name}))

    def _place(self, kind: _Kind, number: int) -> tuple[int, ...]:
        moment = _START + number * _STEP
        parts = (moment.year, moment.month, moment.day, moment.hour)
        return parts[: {"month": 2, "day": 3, "hour": 4}[kind.grain]]

    def _partition(self, kind: _Kind, number: int) -> str:
        config = partition_config(self._manifest["nodes"][f"model.{_NAME}.{kind.name}"])
        if config is None:
            raise DbtConfigError(f"{kind.name} has no partitions")
        moment = _START + number * _STEP
        return str(config.definition().get_partition_key_for_timestamp(moment.timestamp()))

    def _built(self, instance: dg.DagsterInstance, kind: _Kind, first: str, last: str) -> str:
        result = dg.materialize(
            self._assets,
            instance=instance,
            # A model with a schema of its own has it in its key.
            selection=[key for asset in self._assets for key in asset.keys if key.path[-1] == kind.name],
            tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last},
            resources=dict(self._definitions.resources or {}),
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            raise_on_error=False,
        )
        failed = [event.step_failure_data for event in result.all_events if event.is_step_failure]
        return str(failed[0].error).strip() if failed else ""

    def _compared(self, kind: _Kind, expected: Collection[int]) -> str:
        props = self._manifest["nodes"][f"model.{_NAME}.{kind.name}"]
        dbt: DbtResource = self._dbt
        invocation = dbt.cli(["list"], manifest=self._manifest, unique_ids=[props["unique_id"]])
        invocation.wait()
        try:
            adapter = invocation.adapter
            if adapter is None:
                return "this dbt gives no adapter"
            with adapter.connection_named("check"):
                _, table = adapter.execute(f"select id from {props['relation_name']}", fetch=True)  # noqa: S608
        finally:
            invocation.close()
        found = sorted(int(row[0]) for row in table.rows)
        if found == sorted(expected):
            return ""
        return f"{len(found)} rows for {len(expected)}: has {found}, of a full build {sorted(expected)}"

    def _dbt_by_hand(self, *arguments: str) -> None:
        done = subprocess.run(  # noqa: S603 - the command of this environment
            [Path(sys.executable).with_name("dbt"), "--quiet", "--no-use-colors", *arguments, *self._options],
            cwd=self._root,
            env={**os.environ, MACROS_VARIABLE: str(MACROS_DIR)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise DbtConfigError(f"dbt {arguments[0]}: {' '.join((done.stdout + done.stderr).split())[:500]}")
