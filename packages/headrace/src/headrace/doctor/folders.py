"""The folders of the state: free space, and whether they can be written."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from headrace.doctor.finding import Finding
from headrace.workspace import Workspace

_GIB = 1024**3
TOO_LITTLE = _GIB
"""Bytes: DuckDB spills, and Dagster records, until a disk is full; both then fail halfway."""
_SCARCE = 5 * _GIB


def folders_of(workspace: Workspace) -> Mapping[str, Path]:
    """Return the folders that a run writes, by what is in them."""
    lake = {} if "://" in workspace.lake else {"lake": Path(workspace.lake)}
    return {
        "Dagster home": workspace.dagster_home,
        "exports": workspace.exports,
        **lake,
        "warehouse": workspace.warehouse.parent,
        "temporary files": Path(tempfile.gettempdir()),
    }


def check_disk(folders: Mapping[str, Path]) -> Iterator[Finding]:
    """Look at the free space of each file system."""
    systems: dict[int, tuple[Path, list[str]]] = {}
    for what, folder in folders.items():
        there = _nearest(folder)
        systems.setdefault(there.stat().st_dev, (there, []))[1].append(what)
    for there, things in systems.values():
        free = shutil.disk_usage(there).free
        says = f"{free / _GIB:.1f} GiB are free at {there}, for {', '.join(things)}"
        if free < TOO_LITTLE:
            yield Finding("disk", "wrong", says, "free some, or move the state: HEADRACE_STATE, TMPDIR")
        elif free < _SCARCE:
            yield Finding("disk", "warning", says, "a larger load fills it: free some, or set HEADRACE_STATE")
        else:
            yield Finding("disk", "ok", says)


def check_writing(workspace: Workspace, folders: Mapping[str, Path]) -> Iterator[Finding]:
    """Write a temporary file into each folder, or into the one in which it would be made."""
    good = []
    for what, folder in folders.items():
        there = _nearest(folder)
        if not there.is_dir():
            says = f"{what}: {there} is a file, and {folder} must be a folder"
            yield Finding("write-access", "wrong", says, "remove it, or name another folder")
            continue
        try:
            with tempfile.TemporaryFile(dir=there) as file:
                file.write(b"headrace doctor")
                file.flush()
            good.append(what)
        except OSError as error:
            says = f"{what}: {there} cannot be written: {error.strerror or error}"
            yield Finding("write-access", "wrong", says, "make it writable for this user, or name another folder")
    if good:
        yield Finding("write-access", "ok", f"can be written: {', '.join(good)}")
    if "://" in workspace.lake:
        says = f"lake: {workspace.lake} is not tried: an object store is reached with the secrets of the runs"
        yield Finding("write-access", "unknown", says)


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest above it that this user can see."""
    return next(each for each in (folder, *folder.parents) if os.path.exists(each))  # noqa: PTH110 - Path's may raise
