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

from headrace.interrupts import Interrupts

if TYPE_CHECKING:
    from collections.abc import Callable

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def swallow(number: signal.Signals) -> None:
    """Be interrupted as in a launch of Dagster's run queue."""
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


def test_a_wait_ends_with_the_signal() -> None:
    sender = subprocess.Popen(
        [sys.executable, "-c", f"import os, time; time.sleep(0.2); os.kill({os.getpid()}, {int(signal.SIGINT)})"]
    )
    interrupted(lambda interrupts: interrupts.raise_if_wanted(within=60))
    sender.wait()


def test_what_the_process_ignores_stays_ignored_and_handlers_are_as_before() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Interrupts().answered():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
