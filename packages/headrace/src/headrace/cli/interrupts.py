"""How commands answer Ctrl-C and SIGTERM."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Answers both signals with `KeyboardInterrupt`, in this process and while its context lasts.

    Dagster's run queue has a bare `except:` where it counts the slots of pools, at each look: an exception that a
    signal raises in there is logged, and the command goes on as if nobody had asked it to end. And a launch that is cut
    in two leaves a run whose process nobody has recorded. Work of that kind is done in `deferred`.
    """

    def __init__(self) -> None:
        # No `threading.Event`: its lock may be held by the code that the handler interrupts.
        self._wanted = False
        self._deferred = False

    @contextmanager
    def answered(self) -> Iterator["Interrupts"]:
        """Answer the signals in this context; one that the process was started to ignore stays ignored."""
        with _handlers(self._answer):
            yield self

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only remember the first signal, until `raise_if_wanted` or the end of the context; raise at the second.

        Raises:
            KeyboardInterrupt: at the end, if a signal came and nothing has raised since.
        """
        self._deferred = True
        try:
            yield
            self._raise_from_now_on()
        finally:
            self._deferred = False

    def raise_if_wanted(self, wait: Callable[[], object] = lambda: None) -> None:
        """Let a signal interrupt, in `deferred`, while something is waited for.

        Args:
            wait: waits; a signal interrupts it.

        Raises:
            KeyboardInterrupt: one has come, or comes meanwhile; further ones then interrupt at once.
        """
        self._raise_from_now_on()
        wait()
        self._deferred = True

    def _raise_from_now_on(self) -> None:
        # In this order: a signal in between raises from the handler.
        self._deferred = False
        if self._wanted:
            self._wanted = False
            raise KeyboardInterrupt

    def _answer(self, _number: int, _frame: FrameType | None) -> None:
        if self._deferred and not self._wanted:
            self._wanted = True
        else:
            raise KeyboardInterrupt


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Exit with 128 and the signal's number; further signals do not disturb what is then dropped.

    A CI runner sends SIGINT, and seconds later SIGTERM.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    with _handlers(end):
        yield


@contextmanager
def _handlers(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {each: signal.getsignal(each) for each in _SIGNALS}
    for each, former in before.items():
        if former is not signal.SIG_IGN:
            signal.signal(each, handler)
    try:
        yield
    finally:
        for each, former in before.items():
            signal.signal(each, former)
