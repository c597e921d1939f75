"""Removes installed releases that nobody will want back."""

from headrace.installation.history import History
from headrace.installation.installation import Installation
from headrace.installation.installed_release import is_installed, remove_release
from headrace.installation.servers import Servers
from headrace.installation.supervisor import Supervisor


def prune(installation: Installation, location: str) -> list[str]:
    """Remove the oldest installed releases of a location, and return their names.

    As many as `keep` are left, of those to which rollbacks lead; none goes that serves or drains.
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
        gone = [name for name in known if name not in kept and is_installed(installation, name)]
        for name in gone:
            remove_release(installation, name)
        return gone
