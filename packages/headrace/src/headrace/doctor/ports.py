"""The port of the UI: free, or whose."""

import socket
from collections.abc import Iterator

import psutil

from headrace.doctor.finding import Finding

_HOST = "127.0.0.1"


def check_port(port: int) -> Iterator[Finding]:
    """Look whether a program listens at a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        if probe.connect_ex((_HOST, port)) != 0:
            yield Finding("port", "ok", f"port {port} is free")
            return
    says = f"port {port} is in use by {_listener(port)}"
    yield Finding("port", "warning", says, "stop that program, or pass another port: `headrace run --serve --port N`")


def _listener(port: int) -> str:
    try:
        pids = [
            connection.pid
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid
        ]
        if pids:
            return f"process {pids[0]} ({psutil.Process(pids[0]).name()})"
    except (psutil.Error, OSError):
        pass
    return "a program that this user cannot see"
