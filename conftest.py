"""What holds for each test of each member: its signals, its limit, its processes, and what it measured.

pytest reads this file for any test below it, also for a member that is tested with nothing else installed: so it needs
nothing but pytest.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from collections.abc import Set as AbstractSet

_ROOT = Path(__file__).parent
_PROC = Path("/proc")
_SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD)
_GRACE_SECONDS = 20.0
_SLOW_SECONDS = 300.0
_BACKSTOP_SECONDS = 60.0
# Of the process that runs the tests itself: they end when that does, since they read a pipe from it. The second is that
# of which dbt is forked to parse.
_END_WITH_THEIR_PARENT = ("from multiprocessing.resource_tracker import main", "['dbt.cli.main', ")

# What the tests import stays: while they are collected, and ever after, the collector would walk all of it.
gc.disable()

_mark = pytest.StashKey[str]()
_cpu = pytest.StashKey[float]()
_stderr = pytest.StashKey[int]()
_children = pytest.StashKey[set[int]]()
_leaked = pytest.StashKey["Sequence[_Process]"]()


def _measure_no_examples() -> None:
    """Let an example of hypothesis take its time: its own limit is 200 ms, on whatever else the machine does."""
    with suppress(ImportError):  # a member without it
        from hypothesis import settings  # noqa: PLC0415

        settings.register_profile("headrace", deadline=None)
        settings.load_profile("headrace")


def pytest_configure(config: pytest.Config) -> None:
    """Restore the signals, and mark what this session starts from now on."""
    _restore_signals()
    _measure_no_examples()
    # Here nothing is captured yet.
    config.stash[_stderr] = os.dup(2)
    if not _is_worker(config):
        # A SIGTERM ends the session as a Ctrl-C does: what the tests have started is ended too.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        config.stash[_children] = set()
        config.stash[_mark] = f"TESTED_BY_{uuid4().hex}"
        os.environ[config.stash[_mark]] = "1"


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close what `pytest_configure` opened."""
    with suppress(KeyError):
        os.close(config.stash[_stderr])
        del config.stash[_stderr]


@pytest.hookimpl(trylast=True)  # after -k and -m
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give a slow test, which starts servers or runs dbt, five minutes: on a busy machine it takes thrice as long.

    Of the tests that a mark `some_of` puts together, leave out all but some, unless `HEADRACE_THOROUGH` is set.
    """
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_SLOW_SECONDS))
    left_out = set() if os.environ.get("HEADRACE_THOROUGH") else set(_left_out(items))
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Let the collector look at what the tests make, and at nothing that was imported for them."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """End the process with all its stacks where a test does not end with its limit: in C code, or it catches all."""
    marker = item.get_closest_marker("timeout")
    limit = float(marker.args[0] if marker and marker.args else item.config.getini("timeout"))
    faulthandler.dump_traceback_later(limit + _BACKSTOP_SECONDS, exit=True, file=item.config.stash[_stderr])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Remember what this process, and the processes that it has waited for, have computed until now."""
    item.stash[_cpu] = _cpu_seconds()
    yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Tell how long a test computed, with its fixtures: `make slowest` shows it beside how long it took.

    A test that leaves the process in another folder fails, and not one that runs after it.
    """
    yield
    if (here := Path.cwd()) != item.config.invocation_params.dir:
        os.chdir(item.config.invocation_params.dir)
        pytest.fail(f"it leaves this process in {here}")
    item.user_properties.append(("cpu_seconds", f"{_cpu_seconds() - item.stash[_cpu]:.2f}"))


@pytest.hookimpl(trylast=True)  # xdist has ended its workers
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the session for each process that its tests have left, and end it."""
    if _is_worker(session.config):
        children = [process.pid for process in _left("", {os.getpid()})]
        session.config.workeroutput["children"] = children  # type: ignore[attr-defined] # xdist's
        return
    mark, ours = session.config.stash[_mark], {os.getpid(), *session.config.stash[_children]}
    deadline = time.monotonic() + _GRACE_SECONDS
    while (left := _left(mark, ours)) and time.monotonic() < deadline:
        time.sleep(0.1)
    session.config.stash[_leaked] = left
    for process in left:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, signal.SIGKILL)
    if left and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Remember what one of xdist's workers has left: without its environment and its parent, nothing tells it."""
    config: pytest.Config = node.config  # type: ignore[attr-defined] # xdist has no types
    config.stash[_children].update(getattr(node, "workeroutput", {}).get("children", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was measured (`record_property("measured", "...")`), and what was left."""
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        for name, value in report.user_properties if report.when == "call" else ():
            if name == "measured":
                terminalreporter.write_line(f"measured: {value}")
    if left := config.stash.get(_leaked, []):
        terminalreporter.section("processes that outlived the tests", red=True)
        for process in left:
            terminalreporter.write_line(f"{process.pid} of {process.test}: {process.command}")


@dataclass(frozen=True)
class _Process:
    """A process that lives.

    Args:
        pid: its number.
        parent: that of its parent.
        command: its command line.
        test: the test that started it, or its fixture.
        is_marked: whether it is of this session by its environment.
    """

    pid: int
    parent: int
    command: str
    test: str
    is_marked: bool


def _left_out(items: Sequence[pytest.Item]) -> Iterator[pytest.Item]:
    """Yield the tests that are not chosen: others for each revision, the same ones for the same revision.

    Where no more tests of a group are asked for than would be chosen, as where one is named, all of them run.
    """
    groups: dict[tuple[str, int], list[pytest.Item]] = {}
    for item in items:
        if mark := item.get_closest_marker("some_of"):
            groups.setdefault((mark.args[0], mark.args[1]), []).append(item)
    if not groups:
        return
    staged = subprocess.run(["git", "ls-files", "--stage"], check=False, cwd=_ROOT, capture_output=True).stdout  # noqa: S607
    for (group, number), members in groups.items():
        if len(members) > number:
            rng = random.Random(staged + group.encode())  # noqa: S311 - a choice, not a secret
            yield from rng.sample(members, len(members) - number)


def _restore_signals() -> None:
    """Answer signals as a program that was started at a terminal does, for the tests and all that they start.

    A job that a script puts into the background ignores SIGINT; its children inherit that, and what is ignored stays
    so, as it should: then the processes that the tests interrupt never end. SIGHUP, which `nohup` ignores, is left
    alone: no test sends it.
    """
    for number in _SIGNALS:
        handler = signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _is_worker(config: pytest.Config) -> bool:
    """Return whether this is a process of xdist's, whose controller looks for what all of them have left."""
    return hasattr(config, "workerinput")


def _left(mark: str, ours: AbstractSet[int]) -> Sequence[_Process]:
    """Return the living processes that carry a mark, or are among ours, or descend from those; but not this one."""
    processes = [*_processes(mark)]
    found = {process.pid for process in processes if process.is_marked} | ours
    while more := {one.pid for one in processes if one.parent in found} - found:
        found |= more
    return [
        process
        for process in processes
        if process.pid in found - {os.getpid()}
        and not (process.parent == os.getpid() and any(each in process.command for each in _END_WITH_THEIR_PARENT))
    ]


def _processes(mark: str) -> Iterator[_Process]:
    """Yield each process of this machine; one that is dead, and not yet waited for, has no command."""
    for path in _PROC.glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            parent = int((path / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        environment: list[str] = []
        with suppress(OSError):  # another user's
            environment = (path / "environ").read_bytes().decode(errors="replace").split("\0")
        (test,) = [line.partition("=")[2] for line in environment if line.startswith("PYTEST_CURRENT_TEST=")] or ["?"]
        if command:
            yield _Process(int(path.name), parent, command.strip(), test, f"{mark}=1" in environment)
