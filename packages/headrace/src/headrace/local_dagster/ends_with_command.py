"""Becomes a server that the kernel kills when the command that started it is gone, also where that was killed.

    python -IS ends_with_command.py PROGRAM [ARGUMENT]...

Nothing would end it then: it is of a session of its own, so that a Ctrl-C is the command's to answer. Its runs are
processes of their own, and go on to their end. It lasts over `execv`: prctl(2), PR_SET_PDEATHSIG. It is run by its
path, so it imports the standard library alone.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(command: list[str]) -> None:
    """Replace this process by a program's.

    Raises:
        OSError: the kernel refuses, or there is no such program.
    """
    parent = os.getppid()
    # Not SIGTERM: Dagster makes SIGINT of it, which what was started in the background of a script ignores.
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:
        sys.exit("the command has ended")
    os.execv(command[0], command)  # noqa: S606 - what the command has chosen


if __name__ == "__main__":
    main(sys.argv[1:])
