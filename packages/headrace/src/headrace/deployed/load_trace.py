"""What the loading of the code locations has read, so that a later command can tell whether they are still the same.

Python tells each file that is opened and each folder that is listed, by an audit hook: modules, YAML, SQL, a manifest,
the metadata of packages. The state of each is taken as it is read. What a program or a network answers has no state
that could be compared, and what asked for it is not remembered. It imports the standard library alone.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import source_from_cache
from pathlib import Path
from typing import Any

_FORMAT = 1
# Made by what runs, not read by what loads.
_NOT_LISTED = {"__pycache__", "target", "logs", ".user.yml"}
_NOT_FILES = ("/proc/", "/sys/", "/dev/")
# Of a terminal or a session; what remains says where things are, and what is wanted.
_VOLATILE = {"_", "COLORTERM", "COLUMNS", "LINES", "LS_COLORS", "OLDPWD", "PWD", "PYTEST_CURRENT_TEST", "SHLVL", "TERM"}
_VOLATILE_PREFIXES = ("SSH_", "XDG_", "HEADRACE_FORKED_", "HEADRACE_PRELOADED_")
# The standard library asks it what kind of executable Python is.
_HARMLESS_PROGRAMS = {"file"}

State = Sequence[int | str] | None


class LoadTrace:
    """Records what this process reads, from its making to `stop`."""

    def __init__(self) -> None:
        self._files: dict[str, State] = {}
        self._folders: dict[str, State] = {}
        self._asked: list[str] = []
        self._around = around()
        self._root = os.path.join(os.getcwd(), "")
        self._is_on = True
        sys.addaudithook(self._see)

    def stop(self) -> None:
        """Record no more; a hook can not be taken away."""
        self._is_on = False

    def fail(self, why: str) -> None:
        """Say that what was loaded cannot be remembered."""
        self._asked.append(why)

    def to_json(self) -> str:
        """Return what was read, with what else bears on what was loaded."""
        modules = [module.__file__ for module in sys.modules.values() if getattr(module, "__file__", None)]
        files = {**{file: _state_of_file(file) for file in modules if file}, **self._files}
        told = {"format": _FORMAT, "asked": self._asked, "files": files, "folders": self._folders}
        return json.dumps({**told, "around": self._around})

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._is_on:
            return
        try:
            self._take(event, arguments)
        except Exception as error:
            # What a hook raises is raised by what it looks at.
            self.fail(f"{event}: {error}")

    def _take(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            self._open(*arguments)
        elif event in ("os.listdir", "os.scandir"):
            if not isinstance(arguments[0], int):
                self._list(os.path.abspath(_text(arguments[0]) or "."))
        elif event == "subprocess.Popen":
            program = os.path.basename(_text(arguments[0]) or "")
            if program not in _HARMLESS_PROGRAMS:
                self._asked.append(f"the program {program}")
        elif event in ("socket.connect", "socket.getaddrinfo", "os.system", "os.exec"):
            self._asked.append(event)

    def _open(self, path: object, mode: object, flags: object) -> None:
        writes = (isinstance(mode, str) and not mode.startswith("r")) or (
            isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        )
        file = _text(path)
        if file is None or writes:
            return
        file = os.path.abspath(file)
        if file.endswith(".pyc") and "__pycache__" in file:
            file = source_from_cache(file)
        if file not in self._files and not file.startswith(_NOT_FILES):
            self._files[file] = _state_of_file(file)
            # A file that was looked for, and was not there, is beside others that were.
            if file.startswith(self._root) and "/.venv/" not in file:
                self._list(os.path.dirname(file))

    def _list(self, folder: str) -> None:
        if folder not in self._folders:
            self._is_on = False  # to look at it is such an event too
            try:
                self._folders[folder] = _state_of_folder(folder)
            finally:
                self._is_on = True


def difference(trace: Mapping[str, Any]) -> str | None:
    """Return what is not as it was when it was read, of what `LoadTrace.to_json` told; None where all is."""
    if trace.get("format") != _FORMAT:
        return "the format of the trace"
    if trace["asked"]:
        return str(trace["asked"][0])
    if trace["around"] != around():
        return "the interpreter, the folder, the environment or the day"
    files = (file for file, state in trace["files"].items() if _state_of_file(file) != state)
    folders = (folder for folder, state in trace["folders"].items() if _state_of_folder(folder) != state)
    return next(files, None) or next(folders, None)


def still_holds(trace: Mapping[str, Any]) -> bool:
    """Return whether all that was read is as it was, of what `LoadTrace.to_json` told."""
    return difference(trace) is None


def around() -> Mapping[str, str]:
    """Return what is no file: the interpreter, the environment, and the day, for definitions that read the clock."""
    environment = sorted(
        (name, value)
        for name, value in os.environ.items()
        if name not in _VOLATILE and not name.startswith(_VOLATILE_PREFIXES)
    )
    return {
        "python": f"{sys.executable} {sys.version}",
        "folder": str(Path.cwd()),
        "environment": hashlib.sha256(repr(environment).encode()).hexdigest(),
        "day": datetime.now(UTC).date().isoformat(),
    }


def _state_of_file(file: str) -> State:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return [found.st_mtime_ns, found.st_size]


def _state_of_folder(folder: str) -> State:
    try:
        names = sorted(set(os.listdir(folder)) - _NOT_LISTED)
    except OSError:
        return None
    return [len(names), hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()]


def _text(path: object) -> str | None:
    if isinstance(path, bytes):
        return os.fsdecode(path)
    return os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
