"""The manifest of a packaged project, the same bytes whenever, wherever and by whomever it was parsed.

dbt writes times, an identity of the parse, absolute paths, and some collections in the order in which it met them.
Adapter of dbt's `partial_parse.msgpack`, as `parsed_manifest` is; `tests/project/test_packaging.py` fails if it moves.
"""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

EPOCH_VARIABLE = "SOURCE_DATE_EPOCH"
"""The time of the package, in seconds; now where it is unset: https://reproducible-builds.org/specs/source-date-epoch"""

_NO_INVOCATION = "00000000-0000-0000-0000-000000000000"
_DERIVED = ("parent_map", "child_map", "group_map")
_CONFIGS = ("config", "unrendered_config", "config_call_dict", "meta")
# One is of the folder of the macros. Without them dbt, where it parses for itself, does so from the start.
_HASHES_OF_PATHS = {"project_env_vars_hash", "profile_env_vars_hash"}
_TIMES = ("generated_at", "invocation_started_at", "run_started_at")


def normalize(state: Path, moved: Mapping[Path, str]) -> None:
    """Rewrite the manifest and the partial parse of a folder without what differs from one parse to the next.

    Args:
        state: the folder of both.
        moved: what stands in place of an absolute folder that is elsewhere in the next parse.
    """
    from dbt.parser.manifest import extended_mashumaro_encoder, extended_mashumuro_decoder

    epoch = int(os.environ.get(EPOCH_VARIABLE) or time.time())
    prefixes = {str(folder): name for folder, name in moved.items()}
    manifest = state / "manifest.json"
    content = _normal(json.loads(manifest.read_text(encoding="utf-8")), prefixes, epoch)
    manifest.write_text(json.dumps(content), encoding="utf-8")
    parsed = state / "partial_parse.msgpack"
    parsed.write_bytes(
        extended_mashumaro_encoder(_normal(extended_mashumuro_decoder(parsed.read_bytes()), prefixes, epoch))
    )


def _normal(content: dict[str, Any], prefixes: Mapping[str, str], epoch: int) -> dict[str, Any]:
    moved: dict[str, Any] = _moved(content, prefixes)
    for name, collection in moved.items():
        # The collections alone: the order of a model's columns is that of its table.
        if isinstance(collection, dict):
            moved[name] = dict(sorted(collection.items()))
            for entry in collection.values():
                if isinstance(entry, dict):
                    _settle(entry, epoch)
        if name in _DERIVED:
            moved[name] = {key: sorted(values) for key, values in moved[name].items()}
    _settle_parse(moved, epoch)
    return moved


def _settle_parse(moved: dict[str, Any], epoch: int) -> None:
    """Give the parse, and the files that it read, the time of the package and no identity of their own."""
    for file in moved.get("files", {}).values():
        if "modification_time" in (file.get("path") or {}):
            file["path"]["modification_time"] = float(epoch)
    for entries in moved.get("disabled", {}).values():
        for entry in entries:
            _settle(entry, epoch)
    for name in moved.get("state_check", {}).keys() & _HASHES_OF_PATHS:
        moved["state_check"][name] = {"name": "none", "checksum": ""}
    instant = datetime.fromtimestamp(epoch, UTC).isoformat().replace("+00:00", "Z")
    # `env` is what the environment says to dbt's artifacts: it is of the machine, not of the project.
    moved["metadata"] |= {"invocation_id": _NO_INVOCATION, "user_id": None, "env": {}}
    moved["metadata"] |= {key: instant for key in _TIMES if key in moved["metadata"]}


def _settle(entry: dict[str, Any], epoch: int) -> None:
    """Give a node its time, and its config one order: dbt's extractor, in Rust, shuffles the config of a model."""
    if "created_at" in entry:
        entry["created_at"] = float(epoch)
    for key in _CONFIGS:
        if key in entry:
            entry[key] = _ordered(entry[key])


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _ordered(entry) for key, entry in sorted(value.items(), key=lambda item: str(item[0]))}
    return [_ordered(entry) for entry in value] if isinstance(value, list) else value


def _moved(value: Any, prefixes: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {_moved(key, prefixes): _moved(entry, prefixes) for key, entry in value.items()}
    if isinstance(value, list):
        return [_moved(entry, prefixes) for entry in value]
    if isinstance(value, str) and os.sep in value:
        package, separator, path = value.rpartition("://")  # how dbt names a file
        for prefix, name in prefixes.items():
            if path == prefix or path.startswith(prefix + os.sep):
                return f"{package}{separator}{name}{path[len(prefix) :]}"
    return value
