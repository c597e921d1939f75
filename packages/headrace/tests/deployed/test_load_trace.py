"""What loading has read is seen to change: each thing that definitions are made from, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOADS = """
import sys
from headrace.deployed.load_trace import LoadTrace

trace = LoadTrace()
import loaded
trace.stop()
open("after.txt").close()
print(trace.to_json())
"""
HOLDS = """
import json, sys
from headrace.deployed.load_trace import still_holds
print(still_holds(json.loads(sys.stdin.read())))
"""
LOADED = """
import os
from pathlib import Path

import inner.part

text = Path("models/a.sql").read_text()
names = sorted(os.listdir("models"))
for folder, _, files in os.walk("deep"):
    pass
found = Path("settings/optional.yml").is_file() or Path("settings/base.yml").read_text()
Path("out/written.txt").write_text("by loading")
"""


def call(script: str, folder: Path, text: str = "", **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
        input=text,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in {
        "loaded.py": LOADED,
        "inner/__init__.py": "",
        "inner/part.py": "value = 1\n",
        "models/a.sql": "select 1",
        "deep/er/b.sql": "select 2",
        "settings/base.yml": "a: 1",
        "after.txt": "",
        "out/other.txt": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def holds(trace: str, folder: Path, **environment: str) -> bool:
    return call(HOLDS, folder, trace, **environment).strip() == "True"


def write(name: str, text: str = "changed") -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    "change",
    [
        write("models/a.sql"),
        write("models/new.sql"),
        write("inner/part.py", "value = 22\n"),
        write("loaded.py", LOADED + "# more\n"),
        write("deep/er/new.sql"),
        # It was looked for, and was not there.
        write("settings/optional.yml"),
        lambda folder: (folder / "models" / "a.sql").unlink(),
        lambda folder: (folder / "deep" / "er" / "b.sql").rename(folder / "deep" / "er" / "c.sql"),
        # Of the same size, as an editor writes it.
        write("models/a.sql", "select 3"),
    ],
)
def test_a_change_of_what_was_read_is_seen(project: Path, change: Callable[[Path], object]) -> None:
    trace = call(LOADS, project)
    assert holds(trace, project)
    change(project)
    assert not holds(trace, project)


@pytest.mark.parametrize(
    "change",
    [
        write("after.txt"),
        write("out/written.txt"),
        write("deep/er/b.sql", "it was listed, and not read"),
        lambda folder: (folder / "models" / "__pycache__").mkdir(),
        lambda folder: (folder / "models" / "target").mkdir(),
    ],
)
def test_another_change_is_none(project: Path, change: Callable[[Path], object]) -> None:
    trace = call(LOADS, project)
    change(project)
    assert holds(trace, project)


def test_the_environment_the_folder_and_the_day_count_and_the_terminal_does_not(project: Path) -> None:
    trace = call(LOADS, project)
    assert not holds(trace, project, HEADRACE_START="2020-01-01")
    assert not holds(trace, project, DBT_TARGET="other")
    assert holds(trace, project, TERM="dumb", COLUMNS="7", SSH_TTY="x")
    content = json.loads(trace)
    assert not holds(json.dumps({**content, "around": {**content["around"], "day": "2020-01-01"}}), project)
    assert not holds(json.dumps({**content, "format": 0}), project)
    (project / "other").mkdir()
    assert not holds(trace, project / "other")


@pytest.mark.parametrize(
    ("asks", "said"),
    [
        ("import subprocess; subprocess.run(['true'])", "the program true"),
        ("import os; os.system('true')", "os.system"),
        ("import socket\ntry: socket.create_connection(('127.0.0.1', 9), 1)\nexcept OSError: pass", "socket.connect"),
    ],
)
def test_what_asks_a_program_or_a_network_is_not_remembered(project: Path, asks: str, said: str) -> None:
    (project / "loaded.py").write_text(f"{LOADED}\n{asks}\n")
    trace = call(LOADS, project)
    assert said in json.loads(trace)["asked"]
    assert not holds(trace, project)


def test_a_look_that_fails_disturbs_nothing_and_is_not_remembered(project: Path) -> None:
    """The name is that of pytest's own bytecode, which the standard library takes for none."""
    odd = project / "__pycache__" / "odd.cpython-311-pytest-8.3.4.pyc"
    odd.parent.mkdir()
    odd.write_bytes(b"")
    (project / "loaded.py").write_text(f"{LOADED}\nopen({str(odd)!r}, 'rb').close()\n")
    trace = call(LOADS, project)
    assert any(why.startswith("open: ") for why in json.loads(trace)["asked"])
    assert not holds(trace, project)
