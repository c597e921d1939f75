"""Which private modules of Dagster and dbt are used: each in one adapter, whose own test fails when it moves."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRIVATE = re.compile(r"(?:dagster|dagster_\w+|dbt)(?:\.\w+)*?\._\w+(?:\.\w+)*")

HEADRACE = "packages/headrace/src/headrace"
DBT_COMMON = "packages/dbt_common/src/dagster_dbt_common"
ADAPTERS = {
    # The metadata of many partitions at once.
    f"{DBT_COMMON}/assets/partition_metadata.py": {"dagster._core.execution.context.metadata_logging"},
    # Materializations that an op logs as one batch.
    f"{DBT_COMMON}/assets/event_batches.py": {"dagster._core.events"},
    # What a run launcher of one's own needs.
    f"{HEADRACE}/deployed/launcher.py": {"dagster._core.events", "dagster._core.launcher"},
    # How Dagster's launchers for containers begin a run; and the configuration and the code server of a launcher.
    f"{HEADRACE}/deployed/forked_launcher.py": {
        "dagster._cli.api",
        "dagster._config.config_schema",
        "dagster._core.events",
        "dagster._core.launcher",
        "dagster._core.remote_representation.code_location",
        "dagster._grpc.types",
        "dagster._serdes",
    },
    # What a launcher needs, and how dagster-celery's calls its task.
    f"{HEADRACE}/deployed/celery_launcher.py": {
        "dagster._core.errors",
        "dagster._core.launcher",
        "dagster._grpc.types",
        "dagster._serdes",
    },
    # How a code server begins, and a run of it, with definitions that are loaded.
    f"{HEADRACE}/deployed/warm_location.py": {
        "dagster._cli.api",
        "dagster._core.code_pointer",
        "dagster._core.definitions.definitions_load_context",
        "dagster._core.definitions.reconstruct",
        "dagster._core.events",
        "dagster._core.instance.ref",
        "dagster._core.origin",
        "dagster._core.workspace.autodiscovery",
        "dagster._grpc.impl",
        "dagster._serdes",
        "dagster._utils.interrupts",
    },
    # What a run imports besides the definitions, where it is there; and from which state definitions are made.
    f"{HEADRACE}/deployed/preloaded_locations.py": {
        "dagster._cli.api",
        "dagster._core.definitions.definitions_load_context",
        "dagster._core.storage.event_log",
        "dagster._core.storage.runs",
        "dagster._core.storage.schedules",
        "dagster._grpc.server",
    },
    # The text of partitions.
    f"{HEADRACE}/local_dagster/asset_node.py": {"dagster._core.definitions.partitions.snap.snap"},
    # What the UI says of a check.
    f"{HEADRACE}/local_dagster/failed_checks.py": {
        "dagster._core.loader",
        "dagster._core.storage.asset_check_execution_record",
    },
    # What `dagster api grpc` calls, in a fork.
    f"{HEADRACE}/local_dagster/servers.py": {"dagster._cli.api"},
    # The event log in SQLite that writes in batches.
    f"{HEADRACE}/local_dagster/event_log.py": {
        "dagster._core.storage.asset_check_execution_record",
        "dagster._core.storage.event_log",
        "dagster._core.storage.event_log.schema",
        "dagster._core.storage.event_log.sqlite.sqlite_event_log",
        "dagster._core.storage.sqlite",
        "dagster._serdes",
    },
    # The daemons, ticked by `headrace run`.
    f"{HEADRACE}/local_dagster/daemon.py": {
        "dagster._core.definitions.selector",
        "dagster._core.execution.backfill",
        "dagster._core.utils",
        "dagster._core.workspace.context",
        "dagster._core.workspace.load_target",
        "dagster._daemon.auto_run_reexecution.auto_run_reexecution",
        "dagster._daemon.backfill",
        "dagster._daemon.run_coordinator",
    },
}


def test_private_modules_are_used_by_these_adapters_alone() -> None:
    files = [*ROOT.glob("packages/*/src/**/*.py"), *ROOT.glob("projects/*/src/**/*.py"), *ROOT.glob("bench/*.py")]
    assert len(files) > 150
    found = {file.relative_to(ROOT).as_posix(): set(_private(file)) for file in files}
    assert {file: modules for file, modules in found.items() if modules} == ADAPTERS


def _private(file: Path) -> Iterator[str]:
    """Yield the private modules that a file imports or names in a string."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            named = [node.module or ""]
        elif isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = [node.value]
        else:
            continue
        yield from (name for name in named if PRIVATE.fullmatch(name))
