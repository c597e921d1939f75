"""Removes installed releases that nobody will want back."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from headrace.installation.history import History
from headrace.installation.installation import Installation
from headrace.installation.installed_release import is_installed, remove_release
from headrace.installation.servers import Servers
from headrace.installation.supervisor import Supervisor


def prune(installation: Installation, location: str) -> list[str]:
    """Remove the oldest installed releases of a location, and return their names.

    As many as `keep` are left, of those to which rollbacks lead; none goes that serves, drains, or has a process here,
    such as a Celery worker or a run.
    """
    with installation.lock(location):
        processes = Supervisor(installation)
        servers = Servers(installation, location, processes)
        servers.forget_ended()
        used = {
            server.release
            for server in (*servers.others(), *([servers.current()] if servers.current() else []))
            if server
        }
        history = History(installation, location)
        kept = {*list(dict.fromkeys(reversed(history.serving())))[: installation.settings.keep], *used}
        known = dict.fromkeys(entry.release for entry in history.entries())
        kept |= set(_with_processes(installation.folder / "releases"))
        gone = [name for name in known if name not in kept and is_installed(installation, name)]
        for name in gone:
            remove_release(installation, name)
        return gone


def _with_processes(releases: Path) -> Iterator[str]:
    """Yield the names of the releases whose environments have processes: the first words of those name it."""
    start = f"{releases.resolve()}/"
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            yield from (
                word.removeprefix(start).partition("/")[0] for word in process.cmdline() if word.startswith(start)
            )
