"""What was deployed of a location and when: a line of JSON for each switch and each refusal, never changed after."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from headrace.cli.user_errors import UserError
from headrace.installation.installation import Installation
from headrace.releases.release import PLATFORM

Action = Literal["deploy", "rollback", "refuse"]


class Entry(BaseModel):
    """One line.

    Attributes:
        at: when, UTC.
        action: what was done.
        release: the release that serves since then, or was refused.
        server: the server of it; none of a refused release.
        reason: why it was refused.
    """

    model_config = ConfigDict(frozen=True)

    at: str
    action: Action
    release: str
    server: str | None = None
    reason: str | None = None


def locations_of(installation: Installation, location: str | None = None) -> Sequence[str]:
    """Return the locations of which something was deployed or refused, the platform first; or the one that is given.

    Raises:
        UserError: nothing was deployed of that one.
    """
    files = (installation.folder / "history").glob("*.jsonl")
    names = sorted(
        {file.stem for file in files} | {*installation.deployed()}, key=lambda name: (name != PLATFORM, name)
    )
    if location is not None and location not in names:
        raise UserError(f"{location}: never deployed here: this installation has {', '.join(names) or 'nothing'}")
    return [location] if location else names


class History:
    """The history of a location.

    Args:
        installation: where it is.
        location: the location.
    """

    def __init__(self, installation: Installation, location: str) -> None:
        self._file = installation.folder / "history" / f"{location}.jsonl"

    def entries(self) -> Sequence[Entry]:
        """Return all entries, the oldest first; the half of a line that a killed writer left is none."""
        found = []
        for line in self._file.read_text(encoding="utf-8").splitlines() if self._file.is_file() else ():
            try:
                found.append(Entry.model_validate_json(line))
            except ValidationError:
                continue
        return found

    def add(self, action: Action, release: str, *, server: str | None = None, reason: str | None = None) -> None:
        """Add an entry of now."""
        entry = Entry(
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            action=action,
            release=release,
            server=server,
            reason=reason,
        )
        text = json.dumps(entry.model_dump(exclude_none=True)) + "\n"
        # A torn line before it ends here, and is none.
        torn = self._file.is_file() and not self._file.read_bytes().endswith(b"\n")
        with self._file.open("a", encoding="utf-8") as file:
            file.write(f"\n{text}" if torn else text)

    def serving(self) -> Sequence[str]:
        """Return the releases that led to the one that serves: a rollback takes the last of them away."""
        stack: list[str] = []
        for entry in self.entries():
            if entry.action == "rollback" and entry.release in stack:
                del stack[stack.index(entry.release) + 1 :]
            elif entry.action != "refuse" and (not stack or stack[-1] != entry.release):
                stack.append(entry.release)
        return stack

    def mend(self, current: Path) -> None:
        """Add the entry that a deploy killed right after its switch could not write."""
        if not current.is_symlink():
            return
        server, release = current.resolve().name, (current / "release").resolve().name
        last = next((entry for entry in reversed(self.entries()) if entry.action != "refuse"), None)
        if last is None or last.server != server:
            self.add("rollback" if release in self.serving()[:-1] else "deploy", release, server=server)
