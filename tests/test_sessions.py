"""What a session of tests promises, seen from outside: limits, signals, and no process that outlives it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.slow("sessions of pytest in this one, of which some are killed")

ROOT = Path(__file__).parents[1]
TWO = ("-n", "2")
ALONE_AND_TWO = pytest.mark.parametrize("workers", [(), TWO], ids=["alone", "two"])
# Each way that a process escapes: re-parented, in a session of its own, without its environment.
LEAKS = """
import subprocess, sys

kept = []

def test_leaves_processes():
    subprocess.run(["/bin/sh", "-c", "/bin/sleep 3601 & exec true"])
    detached = "import subprocess; subprocess.Popen(['/bin/sleep', '3602'], start_new_session=True)"
    subprocess.run([sys.executable, "-c", detached])
    kept.append(subprocess.Popen(["/bin/sleep", "3603"], env={}))
"""
CLEAN = """
import subprocess, sys

def test_leaves_nothing(record_property):
    subprocess.run(["/bin/sleep", "0"])
    # It ends by itself a moment later.
    subprocess.Popen(["/bin/sh", "-c", "/bin/sleep 1 & exec true"]).wait()
    record_property("measured", "a sleep: 0 s")
"""
STUBBORN = """
import time

def test_catches_everything():
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

def test_of_another_worker():
    pass
"""
LONG = """
import time

def test_hangs_in_a_call():
    time.sleep(600)

def test_after_it():
    pass
"""
INTERRUPTS = """
import os, signal, subprocess, sys, time

def test_a_child_is_interrupted():
    with subprocess.Popen([sys.executable, "-c", "import time; print(1, flush=True); time.sleep(600)"],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout.read(1) == b"1"
        child.send_signal(signal.SIGINT)
        assert child.wait() == -signal.SIGINT
"""
# Kept: of one that is forgotten while it runs Python warns, and pytest makes an error of that.
WAITS = """
import pathlib, subprocess

kept = []

def test_waits():
    kept.append(subprocess.Popen(["/bin/sleep", "3604"]))
    pathlib.Path("started").write_text(str(kept[0].pid))
    kept[0].wait()
"""


MANY = """
import pytest

@pytest.mark.some_of("many", 2)
@pytest.mark.parametrize("number", range(6))
def test_many(number):
    pass

def test_alone():
    pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of tests with the workspace's own configuration, but for its patience."""
    text = (ROOT / "conftest.py").read_text()
    for name in ("_GRACE_SECONDS", "_BACKSTOP_SECONDS"):
        text, changed = re.subn(rf"^{name} = .*$", f"{name} = 2.0", text, flags=re.MULTILINE)
        assert changed == 1
    (tmp_path / "conftest.py").write_text(text)
    project = (ROOT / "pyproject.toml").read_text().partition("[tool.pytest.ini_options]")[2]
    project, changed = re.subn(r"^timeout = .*$", "timeout = 2", project, flags=re.MULTILINE)
    assert changed == 1
    (tmp_path / "pyproject.toml").write_text(f"[tool.pytest.ini_options]{project}")
    return tmp_path


def command(test: str, folder: Path, *arguments: str) -> Sequence[str]:
    (folder / "test_it.py").write_text(test)
    plugins = ("-p", "no:cacheprovider", "-p", "pytest_timeout", "-p", "xdist", "--disable-plugin-autoload")
    return [sys.executable, "-m", "pytest", *plugins, *arguments, "test_it.py"]


def session_of(test: str, folder: Path, *arguments: str) -> tuple[int, str]:
    """Return the exit code of a session, and what it said."""
    done = subprocess.run(
        command(test, folder, *arguments), check=False, cwd=folder, text=True, capture_output=True, timeout=100
    )
    return done.returncode, done.stdout + done.stderr


def assert_ends(pid: str) -> None:
    """Wait until a process that was killed is dead."""
    deadline = time.monotonic() + 30
    with suppress(FileNotFoundError, ProcessLookupError):
        while Path("/proc", pid, "cmdline").read_bytes():
            assert time.monotonic() < deadline
            time.sleep(0.05)


@ALONE_AND_TWO
def test_a_process_that_outlives_its_test_fails_the_session_and_ends(folder: Path, workers: Sequence[str]) -> None:
    code, said = session_of(LEAKS, folder, *workers)
    assert (code, "1 passed" in said) == (1, True), said
    left = re.findall(r"^(\d+) of (.*): /bin/sleep (\d+)$", said, re.MULTILINE)
    assert {seconds for _, _, seconds in left} == {"3601", "3602", "3603"}, said
    # Of the one without an environment nobody knows the test.
    assert {test for _, test, seconds in left if seconds != "3603"} == {"test_it.py::test_leaves_processes (call)"}
    for pid, _, _ in left:
        assert_ends(pid)


def test_a_session_without_is_green_and_says_what_was_measured(folder: Path) -> None:
    code, said = session_of(CLEAN, folder, *TWO)
    assert (code, "outlived" in said) == (0, False), said
    assert said.count("measured: a sleep: 0 s\n") == 1


def test_a_test_over_its_limit_fails_and_the_others_go_on(folder: Path) -> None:
    code, said = session_of(LONG, folder, *TWO)
    assert (code, "1 failed, 1 passed" in said) == (1, True), said
    assert "time.sleep(600)" in said
    assert "Timeout (>2.0s)" in said


def test_a_test_that_its_limit_does_not_end_ends_its_process(folder: Path) -> None:
    code, said = session_of(STUBBORN, folder, *TWO)
    assert code != 0
    assert re.search(r"test_it.py.*, line \d+ in test_catches_everything", said), said


def test_what_a_shell_ignores_is_answered_in_tests(folder: Path) -> None:
    line = ["/bin/sh", "-c", "trap '' INT QUIT TERM; exec \"$@\"", "sh", *command(INTERRUPTS, folder, *TWO)]
    done = subprocess.run(line, check=False, cwd=folder, text=True, capture_output=True, timeout=100)
    assert done.returncode == 0, done.stdout


@ALONE_AND_TWO
def test_a_session_that_is_terminated_ends_what_its_tests_have_started(folder: Path, workers: Sequence[str]) -> None:
    with subprocess.Popen(
        command(WAITS, folder, "-o", "timeout=90", *workers), cwd=folder, text=True, stdout=subprocess.PIPE
    ) as session:
        deadline = time.monotonic() + 60
        while not ((folder / "started").exists() and (folder / "started").read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(session.pid, signal.SIGTERM)
        said = session.communicate(timeout=90)[0]
    assert session.returncode == pytest.ExitCode.INTERRUPTED, said
    assert_ends((folder / "started").read_text())


@ALONE_AND_TWO
def test_of_a_group_some_run_the_same_ones_for_a_revision(
    folder: Path, workers: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEADRACE_THOROUGH", raising=False)
    for git in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *git], check=True, cwd=folder)  # noqa: S607
    (code, said), (_, again) = (session_of(MANY, folder, *workers, "-v") for _ in range(2))
    ran, ran_again = (set(re.findall(r"::(test_\w+(?:\[\d\])?)", text)) for text in (said, again))
    assert (code, len(ran), "test_alone" in ran) == (0, 3, True)
    assert ran_again == ran
    chosen = set()
    for number in range(40):
        (folder / "a_change").write_text(f"{number}")
        subprocess.run(["git", "add", "--all"], check=True, cwd=folder)  # noqa: S607
        chosen |= set(re.findall(r"::test_many(\[\d\])", session_of(MANY, folder, "-v")[1]))
        if len(chosen) == 6:
            break
    assert len(chosen) == 6, "each has its turn"
    (_, named) = session_of(MANY, folder, "-v", "-k", "test_many and (1 or 2)")
    assert "2 passed" in named
    monkeypatch.setenv("HEADRACE_THOROUGH", "1")
    assert "7 passed" in session_of(MANY, folder, *workers)[1]


def test_no_example_of_hypothesis_is_timed() -> None:
    assert settings().deadline is None
