"""An installation whose processes supervisor keeps."""

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from installations import COMMAND, Host, configure, own_environment


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """Run the supervisor of an empty installation; its path is short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="hr-"))
    host = Host(folder / "at", folder / "builds", own_environment())
    made = subprocess.run([COMMAND, "release", "init", str(host.folder)], check=True, capture_output=True, text=True)
    assert "headrace release up" in made.stdout
    configure(host.folder)
    supervisor = host.start("up")
    try:
        host.wait_until((host.folder / "run/supervisor.sock").exists)
        yield host
    finally:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait(60)
        shutil.rmtree(folder)
