"""The one line of a Python trace that says what is wrong."""

import re

# An exception's line in a Python trace, and what its message adds to it until an empty line.
_ERROR = re.compile(r"^[\w.]*(?:Error|Exception|Failure)\b.*(?:\n.+)*", re.MULTILINE)
_FRAME = re.compile(r'^ +File "(.+)", line (\d+)', re.MULTILINE)


def error_of(output: str) -> str:
    """Return the first error of a process's output, with its message and its place.

    In a trace with several it is the cause of those below it. Without an error it is the last line.
    """
    error = _ERROR.search(output)
    if error is None:
        return next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "it gave no reason")
    frames = _FRAME.findall(output, 0, error.start())
    place = f" ({frames[-1][0]}, line {frames[-1][1]})" if frames else ""
    return " ".join(error[0].split()) + place
