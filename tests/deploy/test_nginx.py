"""Dagster behind a real nginx: who does not log in sees nothing, and a guest changes nothing."""

from __future__ import annotations

import base64
import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = Path(__file__).parents[2] / "deploy/nginx/dagster.conf"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
pytestmark = [
    pytest.mark.slow("starts two webservers and nginx"),
    pytest.mark.skipif(NGINX is None, reason="there is no nginx: as root, .ci/install-nginx installs it on Debian"),
]

# What `htpasswd` writes; nginx takes a password as it is by this mark.
PASSWORDS = "alice:{PLAIN}editing\nbob:{PLAIN}looking\n"
EDITOR, GUEST = ("alice", "editing"), ("bob", "looking")
VERSION = "{ version }"
# A change that Dagster refuses where it is read-only.
FREE = 'mutation { freeConcurrencySlots(runId: "nobody") }'


@dataclass(frozen=True)
class Site:
    """The address of nginx.

    Args:
        port: its port.
    """

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, query: str, user: tuple[str, str] | None) -> requests.Response:
        return requests.post(f"{self.url}/graphql", json={"query": query}, auth=user, timeout=60)

    def websocket(self, user: tuple[str, str] | None) -> int:
        """Ask for the websocket of the pages, and return the status of the answer."""
        headers = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(b"0123456789abcdef").decode(),
            "Sec-WebSocket-Protocol": "graphql-ws",
        }
        if user:
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(user).encode()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/graphql", headers=headers)
        status = connection.getresponse().status
        connection.close()
        return status


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None
        time.sleep(0.1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("nginx")
    ports = free_ports(3)
    text = "\n".join(line for line in CONFIG.read_text().splitlines() if "ssl_certificate" not in line)
    for old, new in (
        ("127.0.0.1:3000", f"127.0.0.1:{ports[0]}"),
        ("127.0.0.1:3001", f"127.0.0.1:{ports[1]}"),
        ("443 ssl", f"127.0.0.1:{ports[2]}"),
        ("/etc/nginx/", f"{folder}/"),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "dagster.conf").write_text(text)
    (folder / "dagster.htpasswd").write_text(PASSWORDS)
    (folder / "dagster.editors").write_text("alice dagster;\n")
    paths = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # Its workers are the user that it is started by: root's may read this folder.
    user = "user root;" if os.geteuid() == 0 else ""
    main = f"{user} daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}"
    (folder / "nginx.conf").write_text(f"{main} http {{ {paths} access_log off; include {folder}/dagster.conf; }}\n")
    home = folder / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    webserver = [
        Path(sys.executable).parent / "dagster-webserver",
        "--empty-workspace",
        "--host",
        "127.0.0.1",
        "--port",
    ]
    environment = {**os.environ, "DAGSTER_HOME": str(home)}
    processes = []
    try:
        # One after the other: both would make the instance's tables.
        for port, options in ((ports[0], []), (ports[1], ["--read-only"])):
            command = [*webserver, str(port), *options]
            processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL))
            await_port(port, processes[-1])
        processes.append(subprocess.Popen([str(NGINX), "-c", folder / "nginx.conf", "-p", folder]))
        await_port(ports[2], processes[-1])
        yield Site(ports[2])
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(timeout=60)


@pytest.mark.parametrize("user", [None, ("alice", "looking"), ("", ""), ("mallory", "")])
def test_who_does_not_log_in_sees_nothing(site: Site, user: tuple[str, str] | None) -> None:
    for path in ("/", "/graphql", "/locations", "/server_info", "/favicon.png", "/dagit_info", "/logs/a/b/c"):
        answer = requests.get(site.url + path, auth=user, timeout=60)
        assert (answer.status_code, "agster" in answer.text) == (401, False), path
    assert site.ask(VERSION, user).status_code == 401
    assert site.websocket(user) == 401


def test_an_editor_reads_and_changes(site: Site) -> None:
    assert site.ask(VERSION, EDITOR).json()["data"]["version"]
    assert '<div id="__next">' in requests.get(site.url, auth=EDITOR, timeout=60).text
    assert site.websocket(EDITOR) == 101
    assert "errors" not in site.ask(FREE, EDITOR).json()


def test_a_guest_reads_and_changes_nothing(site: Site) -> None:
    assert site.ask(VERSION, GUEST).json()["data"]["version"]
    assert '<div id="__next">' in requests.get(site.url, auth=GUEST, timeout=60).text
    assert site.websocket(GUEST) == 101
    refused = site.ask(FREE, GUEST).json()
    assert "errors" in refused
    assert not (refused.get("data") or {}).get("freeConcurrencySlots")
