"""Builds of the throwaway models in every way, and the comparison of their rows: a process of its own.

The ids that a full build would have are known without one: they are those of the rows that the proofs have made.

`python -m dagster_dbt_common.proofs.builds FOLDER [TARGET]` writes a JSON object for each proof, and one with the key
`refused` where it cannot go on.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import dagster as dg
from dagster_dbt.errors import DagsterDbtCliRuntimeError

from dagster_dbt_common.definitions import dbt_definitions
from dagster_dbt_common.errors import DbtConfigError, StaleManifestError
from dagster_dbt_common.partitions.config import partition_config
from dagster_dbt_common.proofs.kinds import KINDS, LATE, ROWS, START, STEP, TAKEN_BACK, Kind
from dagster_dbt_common.proofs.throwaway import PROJECT, Throwaway

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from dagster_dbt_common.engine.resource import DbtResource


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


class Builds:
    """The builds of a throwaway project.

    Args:
        throwaway: the project.
    """

    def __init__(self, throwaway: Throwaway) -> None:
        self._throwaway = throwaway
        self._definitions = dbt_definitions(throwaway.root, target=throwaway.target)
        self._assets = [asset for asset in self._definitions.assets or () if isinstance(asset, dg.AssetsDefinition)]
        self._dbt: DbtResource
        (self._dbt,) = (self._definitions.resources or {}).values()

    def of(self, kind: Kind) -> Iterator[Proof]:
        """Yield the proofs of a kind.

        Raises:
            DbtConfigError: dbt cannot make the rows.
        """
        late, taken = {LATE}, {TAKEN_BACK}
        day = {number for number in range(ROWS) if self._place(kind, number) == self._place(kind, LATE)}
        alone = self._partition(kind, LATE)
        whole = (self._partition(kind, 0), self._partition(kind, ROWS - 1))
        with dg.DagsterInstance.ephemeral() as instance:
            ways: Sequence[tuple[str, Collection[int], tuple[str, str], Collection[int]]] = (
                ("first, alone", late, (alone, alone), day - late),
                ("again", late, (alone, alone), day - late),
                ("in a range", late, whole, set(range(ROWS)) - late),
                ("after a late row", (), (alone, alone), set(range(ROWS))),
                ("after a row was taken back", taken, (alone, alone), set(range(ROWS)) - (taken & day)),
                ("after all rows were taken back", day, (alone, alone), set(range(ROWS)) - day),
            )
            for way, gone, (first, last), expected in ways:
                self._make_visits_without(gone)
                yield Proof(kind.name, way, self._built(instance, kind, first, last) or self._compared(kind, expected))

    def _make_visits_without(self, gone: Collection[int]) -> None:
        invocation = self._dbt.cli(
            ["run", "--vars", json.dumps({"gone": [-1, *gone]})],
            manifest=self._throwaway.manifest,
            unique_ids=[f"model.{PROJECT}.visits"],
        )
        try:
            invocation.wait()
        except DagsterDbtCliRuntimeError as error:
            raise DbtConfigError(" ".join(str(error).split())[:500]) from error
        finally:
            invocation.close()

    def _place(self, kind: Kind, number: int) -> tuple[int, ...]:
        moment = START + number * STEP
        parts = (moment.year, moment.month, moment.day, moment.hour)
        return parts[: {"month": 2, "day": 3, "hour": 4}[kind.grain]]

    def _partition(self, kind: Kind, number: int) -> str:
        config = partition_config(self._throwaway.manifest["nodes"][f"model.{PROJECT}.{kind.name}"])
        if config is None:
            raise DbtConfigError(f"{kind.name} has no partitions")
        moment = START + number * STEP
        return str(config.definition().get_partition_key_for_timestamp(moment.timestamp()))

    def _built(self, instance: dg.DagsterInstance, kind: Kind, first: str, last: str) -> str:
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

    def _compared(self, kind: Kind, expected: Collection[int]) -> str:
        manifest = self._throwaway.manifest
        props = manifest["nodes"][f"model.{PROJECT}.{kind.name}"]
        invocation = self._dbt.cli(["list"], manifest=manifest, unique_ids=[props["unique_id"]])
        try:
            invocation.wait()
            adapter = invocation.adapter
            if adapter is None:
                return "this dbt gives no adapter"
            with adapter.connection_named("check"):
                _, table = adapter.execute(f"select id from {props['relation_name']}", fetch=True)  # noqa: S608
        except Exception as error:  # an adapter's own: what the target does not do is what is asked here
            return f"its rows cannot be read: {' '.join(str(error).split())[:500]}"
        finally:
            invocation.close()
        found = sorted(int(row[0]) for row in table.rows)
        if found == sorted(expected):
            return ""
        return f"{len(found)} rows for {len(expected)}: has {found}, of a full build {sorted(expected)}"


def main(folder: str, target: str | None = None) -> None:
    """Build all, and write what came of it."""
    # Dagster answers SIGTERM as it does SIGINT, and where it does not answer, dbt by hand is ended too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # dbt writes to standard output what is a run's log elsewhere.
    told = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    try:
        builds = Builds(Throwaway(Path(folder), target))
        for kind in KINDS:
            for proof in builds.of(kind):
                told.write(json.dumps(proof._asdict()) + "\n")
    except (DbtConfigError, StaleManifestError) as error:
        told.write(json.dumps({"refused": str(error)}) + "\n")
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main(*sys.argv[1:])
