"""What a check has found."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "wrong", "unknown"]
"""`warning` works today and may not tomorrow; `unknown` is a check that could not be made."""


@dataclass(frozen=True)
class Finding:
    """What a check has found.

    Args:
        check: the name of the check.
        state: how it is.
        says: what was found, on one line.
        mend: what to do; None where there is nothing to do.
    """

    check: str
    state: State
    says: str
    mend: str | None = None


def one_line(error: object) -> str:
    """Return a message without line breaks."""
    return " ".join(str(error).split())
