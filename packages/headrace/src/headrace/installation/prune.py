"""Removes installed releases that nobody will want back."""

from headrace.installation.environment import installed
from headrace.installation.history import History
from headrace.installation.installation import Installation, remove_tree
from headrace.installation.servers import Servers, processes_of


def prune(installation: Installation, location: str) -> list[str]:
    """Remove the oldest installed releases of a location, and return their names.

    As many as `keep` are left, of those to which rollbacks lead; none goes that serves or drains.
    """
    with installation.lock(location):
        processes = processes_of(installation)
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
        gone = [name for name in known if name not in kept and installed(installation, name)]
        for name in gone:
            folder = installation.folder / "releases" / name
            (folder / "release.json").unlink()
            remove_tree(folder)
        return gone
