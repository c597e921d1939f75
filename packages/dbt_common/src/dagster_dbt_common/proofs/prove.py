"""The proofs of a target: what begins them, tells them, and leaves nothing of them however they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dagster_dbt_common.errors import DbtConfigError
from dagster_dbt_common.proofs.builds import Proof
from dagster_dbt_common.proofs.throwaway import Throwaway

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from types import FrameType

_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
_END_SECONDS = 30.0
_ASK_SECONDS = 10.0


def prove(
    project_dir: str | Path, *, profile: str | None = None, target: str | None = None
) -> Generator[Proof, None, None]:
    """Yield the proofs on the target of a project, as they are made; call it in the main thread.

    The builds are a process of their own: whatever ends them, or this generator, the schema is dropped. Who closes it
    early waits until that is done, and no signal cuts it short.

    Args:
        project_dir: the folder of `dbt_project.yml`, whose profile is taken.
        profile: a profile other than the project's.
        target: a target other than the profile's default.

    Raises:
        SystemExit: SIGHUP, SIGINT or SIGTERM came, which are answered here meanwhile.
        DbtConfigError: the project cannot be parsed, dbt cannot write there, or the builds were killed.
    """
    ends: list[int] = []
    with tempfile.TemporaryDirectory(prefix="headrace-check-") as folder, _answered(ends):
        throwaway = Throwaway.make(Path(folder), project_dir, profile=profile, target=target)
        errors = Path(folder) / "builds.err"  # of interest where they end by themselves: Python tells each interrupt
        with errors.open("w") as file:
            builds = subprocess.Popen(  # noqa: S603 - a module of this package
                [sys.executable, "-m", "dagster_dbt_common.proofs.builds", folder, *((target,) if target else ())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                start_new_session=True,  # Ctrl-C is this process's to answer
            )
        try:
            yield from _told(builds, errors)
        finally:
            ends.append(0)
            _end(builds)
            throwaway.drop()


def _told(builds: subprocess.Popen[str], errors: Path) -> Iterator[Proof]:
    for line in builds.stdout or ():
        said = json.loads(line)
        if "refused" in said:
            raise DbtConfigError(said["refused"])
        yield Proof(**said)
    ended = os.waitid(os.P_PID, builds.pid, os.WEXITED | os.WNOWAIT)
    if ended and ended.si_status:
        sys.stderr.write(errors.read_text(errors="replace"))
        how = "exit code" if ended.si_code == os.CLD_EXITED else "signal"
        raise DbtConfigError(f"the process that builds has ended by {how} {ended.si_status}: begin again")


def _end(builds: subprocess.Popen[str]) -> None:
    """End the process, asked at first, and dbt that it may have called.

    It is asked again, since Python loses an interrupt that comes in a finalizer. It is waited for at the end alone:
    until then its number is still its own and its group's.
    """
    begun = time.monotonic()
    asked = 0
    while os.waitid(os.P_PID, builds.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        passed = time.monotonic() - begun
        if passed > _END_SECONDS:
            break
        if passed >= asked * _ASK_SECONDS:
            os.kill(builds.pid, signal.SIGTERM)
            asked += 1
        time.sleep(0.05)
    os.killpg(builds.pid, signal.SIGKILL)
    builds.communicate()


@contextmanager
def _answered(ends: list[int]) -> Iterator[None]:
    """Exit at a signal with 128 and its number, unless an end has begun: a CI runner sends SIGINT, and then SIGTERM."""

    def end(number: int, _frame: FrameType | None) -> None:
        if not ends:
            ends.append(number)
            raise SystemExit(128 + number)

    # One that the process was started to ignore, as by `nohup`, stays ignored.
    heard = [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
    before = {each: signal.signal(each, end) for each in heard}
    try:
        yield
    finally:
        for each, former in before.items():
            signal.signal(each, former)
