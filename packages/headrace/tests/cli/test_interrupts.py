"""Tests of the answer to Ctrl-C and SIGTERM, which the process of the tests sends to itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from headrace.cli.interrupts import Interrupts

if TYPE_CHECKING:
    from collections.abc import Callable

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def swallow(number: signal.Signals) -> None:
    """Be interrupted as where Dagster's run queue counts the slots of pools."""
    with suppress(BaseException):
        os.kill(os.getpid(), number)


def interrupted(work: Callable[[Interrupts], None]) -> None:
    """Do deferred work that must end as interrupted."""
    interrupts = Interrupts()
    with interrupts.answered(), pytest.raises(KeyboardInterrupt), interrupts.deferred():
        work(interrupts)


@BOTH
def test_a_signal_interrupts(number: signal.Signals) -> None:
    with Interrupts().answered(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


@BOTH
def test_a_signal_in_code_that_swallows_exceptions_interrupts_what_comes_after(number: signal.Signals) -> None:
    after = []

    def work(interrupts: Interrupts) -> None:
        interrupts.raise_if_wanted()
        swallow(number)
        after.append("deferred")
        interrupts.raise_if_wanted()
        after.append("not reached")

    interrupted(work)
    assert after == ["deferred"]


def test_a_signal_that_nobody_asked_for_interrupts_at_the_end() -> None:
    interrupted(lambda _: swallow(signal.SIGINT))


def test_the_second_signal_interrupts_at_once() -> None:
    def work(_: Interrupts) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("not interrupted")

    interrupted(work)


def test_the_answer_to_the_first_is_interrupted_by_the_second() -> None:
    def work(interrupts: Interrupts) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            interrupts.raise_if_wanted()
        except KeyboardInterrupt:
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("not interrupted")

    interrupted(work)


def test_a_signal_after_the_last_look_is_not_lost() -> None:
    def work(interrupts: Interrupts) -> None:
        interrupts.raise_if_wanted()
        os.kill(os.getpid(), signal.SIGINT)

    interrupted(work)


def test_a_signal_at_any_time_interrupts_once() -> None:
    """Real signals from a process beside it, at times that nobody chooses, into a loop that does little else."""
    sender = (
        "import os, random, sys, time\n"
        "for _ in sys.stdin:\n    time.sleep(random.random() / 500)\n"
        f"    os.kill({os.getpid()}, {int(signal.SIGINT)})\n"
    )

    def work(interrupts: Interrupts) -> None:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        end = time.monotonic() + 30
        while time.monotonic() < end:
            interrupts.raise_if_wanted()
        pytest.fail("the signal was lost")

    with (
        Interrupts().answered(),
        subprocess.Popen([sys.executable, "-c", sender], stdin=subprocess.PIPE) as process,
    ):
        for _ in range(200):
            interrupted(work)


def test_a_wait_ends_with_the_signal() -> None:
    command = f"import os, time; time.sleep(0.2); os.kill({os.getpid()}, {int(signal.SIGINT)})"

    def work(interrupts: Interrupts) -> None:
        sender = subprocess.Popen([sys.executable, "-c", command])
        try:
            interrupts.raise_if_wanted(lambda: time.sleep(3600))
        finally:
            sender.wait()

    # It ends before the test's own limit.
    interrupted(work)


def test_what_the_process_ignores_stays_ignored_and_handlers_are_as_before() -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    with Interrupts().answered():
        assert {signal.getsignal(each) for each in before}.isdisjoint(before.values())
    assert {each: signal.getsignal(each) for each in before} == before
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Interrupts().answered():
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before[signal.SIGTERM])
