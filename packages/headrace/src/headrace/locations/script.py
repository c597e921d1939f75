"""Prints what a code location is, as JSON; run by the location's own interpreter.

The location's environment may lack headrace, so this imports the standard library, dagster and the location, nothing
else. It reads the location's `Definitions` alone. Lists are in order of their keys, so equal locations print the same.
With `--describe contract` it prints what the location promises and expects, version 1:

    {"version": 1,
     "location": "ingest",
     "produces": [{"key": "raw/orders",
                   "partitions": PARTITIONS, or null,
                   "columns": [{"name": "id", "type": "varchar", "nullable": false}],
                   "blocking_checks": ["keys_unique"],
                   "file": "projects/ingest/src/ingest/tables.py:97"}],
     "consumes": [{"key": "raw/orders",
                   "partitions": PARTITIONS that the consumer says they are, or null,
                   "columns": as above,
                   "freshness": dbt's `freshness` of the source with its `loaded_at_field`, or null,
                   "loader": what writes it where no code location does, or null,
                   "stub": true where the key is named by its readers and described by nobody in the location,
                   "asked": [{"by": "order_items", "partitions": PARTITIONS, or null, "mapping": MAPPING}],
                   "file": "dbt/models/sources/raw.yml:42"}]}

`columns` and a `type` are null where they are not told. PARTITIONS is `{"kind": "time", "grain": "day", "start":
"2024-01-01T00:00:00+00:00", "end": null, "timezone": "UTC", "end_offset": 0}`, whose grain is hour, day, week (from
Monday), month, year or a cron; or `{"kind": "static", "names": [keys]}`, or `dynamic` with its name, or `multi` with
its dimensions. MAPPING is `{"kind": "time_window", "start_offset": -1, "end_offset": 0, "allow_nonexistent": true}`;
other kinds are `default`, `virtual` (through assets without data of their own, such as views), `all`, `last`,
`identity` and `other`. `asked` names assets that hold data. A file is relative to the workspace's root where it is
below it; without a code reference it is the location's module.

With `--describe assets` it prints the assets with their parents; a key that the location only reads is among them, and
`dbt` is the unique id of the node that an asset is built by, or null:

    {"assets": [{"key": "stg_orders", "made": true, "parents": ["raw/orders"], "dbt": "model.jaffle_shop.stg_orders"}]}

With `--describe checked` it prints what `headrace contract check` compares: the contract, and the DuckDB files that the
location writes, which are of this machine and in no contract:

    {"contract": as above, "duckdb_files": ["/srv/warehouse.duckdb"]}

With `--describe stored` it runs the jobs by which `dagster-dbt-common` compares the rows of each partition with what
was recorded, in this process and over the instance of `DAGSTER_HOME`, and prints what they found, by kind:

    {"stored": [{"key": "orders", "says": "1 gone", "compared": true, "partitions": {"gone": ["2024-01-01"]}}]}

The partition of an asset without any is null.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

# The folder of a script stands first, and its modules would hide the location's.
if __name__ == "__main__" and sys.path[0] == str(Path(__file__).parent):
    del sys.path[0]
    # It loads once and ends: the collector would walk what it loads again and again, a fifth of the time.
    gc.disable()

import dagster as dg
from dagster.components import load_defs
from dagster.components.definitions import LazyDefinitions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

VERSION = 1

GRAINS = {
    "0 * * * *": "hour",
    "0 0 * * *": "day",
    "0 0 * * 1": "week",
    "0 0 1 * *": "month",
    "0 0 1 1 *": "year",
}
"""The names of the grains, by the cron that says where partitions begin."""

_STORED_ROWS, _FOUND = "__stored_rows", "dagster_dbt_common/stored_rows"
_STUB = "dagster/auto_created_stub_asset"
_DUCKDB_FILE = "dagster_dbt_common/duckdb_file"
_MAPPINGS: Mapping[type[dg.PartitionMapping], str] = {
    dg.TimeWindowPartitionMapping: "time_window",
    dg.AllPartitionMapping: "all",
    dg.LastPartitionMapping: "last",
    dg.IdentityPartitionMapping: "identity",
}


def loaded(module: ModuleType, attribute: str | None) -> dg.RepositoryDefinition:
    """Return what a module defines, found as Dagster finds it.

    Raises:
        SystemExit: there are several entry points, or the attribute is none.
    """
    if attribute:
        found = [getattr(module, attribute)]
    else:
        values = list({id(value): value for value in vars(module).values()}.values())
        kinds = (LazyDefinitions, dg.Definitions, dg.RepositoryDefinition)
        found = next((those for kind in kinds if (those := [v for v in values if isinstance(v, kind)])), [])
        found = found or [dg.Definitions(assets=dg.load_assets_from_modules([module]))]
    if len(found) > 1:
        raise SystemExit(f"Error: {module.__name__} has {len(found)} entry points: name one as `attribute`")
    target = found[0]
    if callable(target) and not isinstance(target, (dg.Definitions, dg.RepositoryDefinition)):
        target = target()
    if isinstance(target, dg.Definitions):
        return target.get_repository_def()
    if isinstance(target, dg.RepositoryDefinition):
        return target
    raise SystemExit(f"Error: {module.__name__}.{attribute} is a {type(target).__name__}, not Definitions")


class Location:
    """A loaded location, described.

    Args:
        name: the location's name.
        repository: what it defines.
        root: the workspace's root.
        module_file: the file of its module.
    """

    def __init__(self, name: str, repository: dg.RepositoryDefinition, root: Path, module_file: str | None) -> None:
        self._name = name
        self._repository = repository
        self._graph = repository.asset_graph
        self._root = root
        self._module_file = module_file or name

    def contract(self) -> Mapping[str, Any]:
        """Return the contract, as the module's docstring describes it."""
        nodes = [self._graph.get(key) for key in sorted(self._graph.get_all_asset_keys())]
        return {
            "version": VERSION,
            "location": self._name,
            "produces": [self._produced(node) for node in nodes if node.is_materializable],
            "consumes": [
                self._consumed(node)
                for node in nodes
                if not node.is_materializable and (node.child_keys or node.check_keys)
            ],
        }

    def assets(self) -> Mapping[str, Any]:
        """Return the assets, as the module's docstring describes them."""
        nodes = [self._graph.get(key) for key in sorted(self._graph.get_all_asset_keys())]
        return {
            "assets": [
                {
                    "key": node.key.to_user_string(),
                    "made": node.is_materializable,
                    "parents": sorted(key.to_user_string() for key in node.parent_keys),
                    "dbt": node.metadata.get("dagster_dbt/unique_id"),
                }
                for node in nodes
            ]
        }

    def checked(self) -> Mapping[str, Any]:
        """Return the contract and the DuckDB files, as the module's docstring describes them."""
        nodes = [self._graph.get(key) for key in self._graph.get_all_asset_keys()]
        files = {_plain(node.metadata.get(_DUCKDB_FILE)) for node in nodes if node.is_materializable}
        return {"contract": self.contract(), "duckdb_files": sorted(files - {None})}

    def stored(self) -> Mapping[str, Any]:
        """Run the jobs that look at what is stored, and return what they found, as the module's docstring describes it.

        Raises:
            SystemExit: one could not be run to its end.
        """
        gc.enable()
        found: list[dict[str, Any]] = []
        with dg.DagsterInstance.get() as instance:
            for name in self._repository.job_names:
                if name.endswith(_STORED_ROWS):
                    done = self._repository.get_job(name).execute_in_process(instance=instance, raise_on_error=False)
                    errors = [event.step_failure_data for event in done.all_events if event.is_step_failure]
                    # That something differs is a failure of the job's own; any other one has ended it too early.
                    if not done.success and not (errors and all(each.user_failure_data for each in errors)):
                        said = errors[0].error_display_string.strip().splitlines() if errors else ["it did not start"]
                        raise SystemExit(f"Error: {name} could not look, run {done.run_id[:8]}: {said[-1]}")
                    kind = dg.DagsterEventType.ASSET_OBSERVATION
                    records = instance.get_records_for_run(done.run_id, of_type=kind).records
                    found += [_observed(record.event_log_entry.dagster_event) for record in records]
        return {"stored": sorted(found, key=lambda each: str(each["key"]))}

    def _produced(self, node: Any) -> Mapping[str, Any]:
        return {
            "key": node.key.to_user_string(),
            "partitions": partitions(node.partitions_def),
            "columns": columns(node.metadata),
            "blocking_checks": sorted(key.name for key in node.check_keys if self._graph.get(key).blocking),
            "file": self._file(node.metadata),
        }

    def _consumed(self, node: Any) -> Mapping[str, Any]:
        loader = _plain(node.metadata.get("loader")) or ("an observation" if node.is_observable else None)
        return {
            "key": node.key.to_user_string(),
            "partitions": partitions(node.partitions_def),
            "columns": columns(node.metadata),
            "freshness": freshness(node.metadata),
            "loader": loader,
            "stub": bool(node.metadata.get(_STUB)),
            "asked": self._asked(node),
            "file": self._file(node.metadata),
        }

    def _asked(self, node: Any) -> Sequence[Mapping[str, Any]]:
        """Return the assets with data that read the node, through whatever virtual assets are between."""
        found: dict[str, Mapping[str, Any]] = {}
        waiting = [(key, "default") for key in node.child_keys]
        seen = set()
        while waiting:
            key, kind = waiting.pop(0)
            if key in seen:
                continue
            seen.add(key)
            reader = self._graph.get(key)
            if reader.is_virtual:
                waiting.extend((child, "virtual") for child in reader.child_keys)
            else:
                direct = reader.partition_mappings.get(node.key) if kind == "default" else None
                found[key.to_user_string()] = {
                    "by": key.to_user_string(),
                    "partitions": partitions(reader.partitions_def),
                    "mapping": mapping(direct, kind),
                }
        return [found[key] for key in sorted(found)]

    def _file(self, metadata: Mapping[str, Any]) -> str:
        value = metadata.get("dagster/code_references")
        for reference in value.code_references if value else ():
            if isinstance(reference, dg.LocalFileCodeReference):
                line = f":{reference.line_number}" if reference.line_number else ""
                return self._relative(reference.file_path) + line
            if isinstance(reference, dg.UrlCodeReference):
                return reference.url
        return self._relative(self._module_file)

    def _relative(self, file: str) -> str:
        path = Path(file).absolute()
        return path.relative_to(self._root).as_posix() if path.is_relative_to(self._root) else str(path)


def partitions(definition: dg.PartitionsDefinition[Any] | None) -> Mapping[str, Any] | None:
    """Return partitions as a contract has them."""
    if definition is None:
        return None
    if isinstance(definition, dg.TimeWindowPartitionsDefinition):
        return {
            "kind": "time",
            "grain": GRAINS.get(definition.cron_schedule, definition.cron_schedule),
            "start": definition.start.isoformat(),
            "end": definition.end.isoformat() if definition.end else None,
            "timezone": definition.timezone,
            "end_offset": definition.end_offset,
        }
    if isinstance(definition, dg.MultiPartitionsDefinition):
        dimensions = {part.name: partitions(part.partitions_def) for part in definition.partitions_defs}
        return {"kind": "multi", "names": [json.dumps({name: dimensions[name]}) for name in sorted(dimensions)]}
    if isinstance(definition, dg.StaticPartitionsDefinition):
        return {"kind": "static", "names": list(definition.get_partition_keys())}
    return {"kind": "dynamic", "names": [getattr(definition, "name", None) or type(definition).__name__]}


def columns(metadata: Mapping[str, Any]) -> Sequence[Mapping[str, Any]] | None:
    """Return the columns of `dagster/column_schema`, and the one by which `partition_expr` says it is partitioned."""
    schema = _plain(metadata.get("dagster/column_schema"))
    if schema is None:
        return None
    # dagster-dbt writes "?" for a column whose YAML has no data_type.
    told = [
        {"name": c.name, "type": None if c.type in ("", "?") else c.type, "nullable": c.constraints.nullable}
        for c in schema.columns
    ]
    expression = _plain(metadata.get("partition_expr"))
    if isinstance(expression, str) and expression.isidentifier() and expression not in {c["name"] for c in told}:
        told.append({"name": expression, "type": None, "nullable": False})
    return sorted(told, key=lambda column: str(column["name"]))


def freshness(metadata: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what a dbt source says of its freshness."""
    said = _plain(metadata.get("dbt/freshness"))
    return {**said, "loaded_at_field": _plain(metadata.get("dbt/loaded_at_field"))} if said else None


def mapping(value: dg.PartitionMapping | None, otherwise: str) -> Mapping[str, Any]:
    """Return a partition mapping as a contract has it; `otherwise` is its kind where there is none."""
    return {
        "kind": _MAPPINGS.get(type(value), "other") if value else otherwise,
        "start_offset": getattr(value, "start_offset", 0),
        "end_offset": getattr(value, "end_offset", 0),
        "allow_nonexistent": getattr(value, "allow_nonexistent_upstream_partitions", False),
    }


def _observed(event: Any) -> dict[str, Any]:
    observation = event.asset_observation_data.asset_observation
    key, said = observation.asset_key.to_user_string(), observation.description
    return {"key": key, "says": said, **_plain(observation.metadata[_FOUND])}


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, dg.MetadataValue) else value


_DESCRIPTIONS = {
    "contract": Location.contract,
    "assets": Location.assets,
    "checked": Location.checked,
    "stored": Location.stored,
}


def main() -> None:
    """Load the location that the arguments name, and write its description to `--out`."""
    parser = argparse.ArgumentParser()
    for option in ("--location", "--attribute", "--working-directory", "--root", "--out"):
        parser.add_argument(option)
    # What to load, in the words of `dagster api grpc`.
    for option in ("--module-name", "--package-name", "--python-file", "--autoload-defs-module-name"):
        parser.add_argument(option)
    parser.add_argument("--describe", choices=_DESCRIPTIONS, default="contract")
    arguments = parser.parse_args()
    sys.path.insert(0, arguments.working_directory)
    if arguments.python_file:
        name = Path(arguments.python_file).stem
        spec = importlib.util.spec_from_file_location(name, arguments.python_file)
        assert spec is not None  # noqa: S101 - a path that ends in .py has a loader
        assert spec.loader is not None  # noqa: S101
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    else:
        named = arguments.module_name or arguments.package_name or arguments.autoload_defs_module_name
        module = importlib.import_module(named)
    if arguments.autoload_defs_module_name:
        repository = load_defs(module).get_repository_def()
    else:
        repository = loaded(module, arguments.attribute)
    location = Location(arguments.location, repository, Path(arguments.root), module.__file__)
    text = json.dumps(_DESCRIPTIONS[arguments.describe](location), indent=2, ensure_ascii=False)
    Path(arguments.out).write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
