"""What a former main job knew: the assets that the locations define, and the exports over which all was fresh.

To load the locations takes seconds. While all that their loading has read is as it was (`load_trace`), what they define
is as it was too. It imports little, since it says whether there is anything to load.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from headrace.deployed.load_trace import still_holds
from headrace.main_job.exports import ExportFiles
from headrace.workspace import Workspace

_DEFINITIONS = "headrace-definitions.json"
_FRESH = "headrace-fresh.json"


@dataclass(frozen=True)
class Remembered:
    """What is remembered, and still so.

    Args:
        nodes: the assets, as `nodes_to_json` has them.
        seems_fresh: whether the export files have the names, times and sizes that they had when all was fresh. The
            plan compares their content, and the history: this only says whether it is worth to load meanwhile.
    """

    nodes: str
    seems_fresh: bool


def recall(workspace: Workspace, exports: ExportFiles) -> Remembered | None:
    """Return what is remembered of a workspace; None where there is nothing, or it is not so any more.

    Args:
        workspace: a workspace that was entered.
        exports: its export files.
    """
    # Whatever is wrong with a file, the locations can be loaded again.
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        content = json.loads((workspace.dagster_home / _DEFINITIONS).read_bytes())
        if still_holds(content["trace"]):
            fresh = None
            with suppress(OSError, ValueError):
                fresh = json.loads((workspace.dagster_home / _FRESH).read_bytes())
            return Remembered(str(content["nodes"]), fresh == signature(exports))
    return None


def remember_definitions(workspace: Workspace, nodes: str, trace: str) -> None:
    """Remember what the locations define, with what their loading has read."""
    write_json(workspace.dagster_home / _DEFINITIONS, {"nodes": nodes, "trace": json.loads(trace)})


def remember_fresh(workspace: Workspace, signature_then: str) -> None:
    """Remember that all was fresh over the exports of a signature."""
    write_json(workspace.dagster_home / _FRESH, signature_then)


def signature(exports: ExportFiles) -> str:
    """Return what changes with a name, a time or a size of an export file."""
    paths = [*exports.tables.values(), *(path for of_table in exports.days.values() for path in of_table.values())]
    states = [(str(path), (found := path.stat()).st_mtime_ns, found.st_size) for path in sorted(paths)]
    return hashlib.sha256(repr(states).encode()).hexdigest()


def write_json(file: Path, content: str | Mapping[str, object]) -> None:
    """Write a file as a whole: one that reads it meanwhile has the former one."""
    fresh = file.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(content), encoding="utf-8")
    fresh.replace(file)
