"""What git says changed between two revisions, or between one and the working tree, which is only ever read."""

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from headrace.cli.user_errors import UserError

WORKING_TREE = None
"""In place of a commit: the files as they are, with uncommitted changes and untracked files."""


@dataclass(frozen=True)
class Change:
    """A changed file. A renamed file is two changes, so that the folder that lost it counts too.

    Args:
        path: relative to the repository's root, with slashes.
        before: whether it was there.
        after: whether it is there now.
    """

    path: str
    before: bool
    after: bool


class Repository:
    """A git repository, or the folder of one in which a workspace is; paths are relative to it.

    Args:
        root: the folder.

    Raises:
        UserError: git is not installed, or the folder is in no repository.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._git("rev-parse", "--git-dir")

    def commit(self, revision: str) -> str:
        """Return the commit that a revision names.

        Raises:
            UserError: there is none.
        """
        found = self._run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        if found.returncode == 0:
            return found.stdout.decode().strip()
        if self._is_shallow():
            raise UserError(f"{revision}: not in this shallow clone: {_DEEPEN}")
        raise UserError(f"{revision}: no such revision in {self.root}: fetch it, or name another one")

    def committed_at(self, commit: str) -> datetime:
        """Return when a commit was made, UTC."""
        seconds = self._git("show", "--no-patch", "--format=%ct", commit).decode().split()[-1]
        return datetime.fromtimestamp(int(seconds), UTC)

    def merge_base(self, revision: str, head: str) -> str:
        """Return the commit from which `head` left `revision`.

        Raises:
            UserError: there is none, or the clone is shallow: it may lack the commits that say where.
        """
        if self._is_shallow():
            raise UserError(
                f"{self.root}: this shallow clone does not reach the merge base of {head} and {revision}: {_DEEPEN}"
            )
        found = self._run("merge-base", self.commit(revision), self.commit(head))
        if found.returncode:
            raise UserError(f"{revision}: has no commit in common with {head}: choose another revision with --base")
        return found.stdout.decode().strip()

    def changes(self, base: str, head: str | None) -> Sequence[Change]:
        """Return the files that differ, in order of their paths.

        Args:
            base: a commit.
            head: a commit, or `WORKING_TREE`.
        """
        revisions = [base] if head is WORKING_TREE else [base, head]
        words = _words(
            self._git("diff", "--name-status", "--no-renames", "--no-ext-diff", "--relative", "-z", *revisions)
        )
        before, after = set(), set()
        for status, path in zip(words[::2], words[1::2], strict=True):
            before.update([path] if status != "A" else [])
            after.update([path] if status != "D" else [])
        if head is WORKING_TREE:
            after.update(_words(self._git("ls-files", "--others", "--exclude-standard", "-z")))
        return [Change(path, path in before, path in after) for path in sorted(before | after)]

    def texts(self, commit: str | None, paths: Iterable[str]) -> Mapping[str, str]:
        """Return the text of those of these files that are there; what is not UTF-8 in it is replaced.

        Args:
            commit: a commit, or `WORKING_TREE`.
            paths: their paths.
        """
        wanted = list(paths)
        if commit is WORKING_TREE:
            files = {path: self.root / path for path in wanted}
            return {path: _text(file.read_bytes()) for path, file in files.items() if file.is_file()}
        asked = "".join(f"{self._object(commit, path)}\n" for path in wanted)
        answer = self._git("cat-file", "--batch", given=asked.encode())
        found = {}
        for path in wanted:
            header, _, answer = answer.partition(b"\n")
            if not header.endswith(b" missing"):
                size = int(header.rpartition(b" ")[2])
                found[path] = _text(answer[:size])
                answer = answer[size + 1 :]
        return found

    def _object(self, commit: str, path: str) -> str:
        """Return a name of a file at a commit that is one line, for `git cat-file --batch`."""
        name = f"{commit}:./{path}"
        if "\n" not in path:
            return name
        return self._run("rev-parse", "--verify", "--quiet", name).stdout.decode().strip() or "0" * len(commit)

    def named(self, commit: str | None, name: str) -> Sequence[str]:
        """Return the paths of all files of this name, in any folder; those that git ignores are left out."""
        if commit is WORKING_TREE:
            listed = self._git(
                "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", f":(glob)**/{name}"
            )
            there = (path for path in _words(listed) if (self.root / path).is_file())
        else:
            listed = self._git("ls-tree", "-r", "-z", "--name-only", commit)
            there = (path for path in _words(listed) if path.rpartition("/")[2] == name)
        return sorted(set(there))

    @contextmanager
    def worktree(self, commit: str) -> Iterator[Path]:
        """Check a commit out into a folder of its own, and give the folder; it is removed afterwards."""
        with TemporaryDirectory(prefix="headrace-worktree-") as temporary:
            folder = Path(temporary).resolve() / "tree"
            # A hook of the user's is for the user's checkouts.
            self._git("-c", "core.hooksPath=/dev/null", "worktree", "add", "--quiet", "--detach", str(folder), commit)
            try:
                yield folder / self._git("rev-parse", "--show-prefix").decode().strip()
            finally:
                self._git("worktree", "remove", "--force", str(folder))

    def _is_shallow(self) -> bool:
        return self._git("rev-parse", "--is-shallow-repository").strip() == b"true"

    def _git(self, *arguments: str, given: bytes | None = None) -> bytes:
        """Return what git says.

        Raises:
            UserError: it fails; the message is its own.
        """
        result = self._run(*arguments, given=given)
        if result.returncode:
            said = _text(result.stderr).strip().splitlines()
            raise UserError(f"{self.root}: {said[0].removeprefix('fatal: ') if said else f'git {arguments[0]} failed'}")
        return result.stdout

    def _run(self, *arguments: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(  # noqa: S603 - git, with arguments that are no options
                ["git", *arguments],  # noqa: S607 - the user's git
                check=False,
                cwd=self.root,
                env={**os.environ, "LC_ALL": "C"},
                input=given if given is not None else b"",
                capture_output=True,
            )
        except FileNotFoundError:
            raise UserError("git is not on PATH: install it") from None


_DEEPEN = "run `git fetch --unshallow`, or check out with fetch-depth: 0"


def _words(output: bytes) -> list[str]:
    return [_text(word) for word in output.split(b"\0") if word]


def _text(content: bytes) -> str:
    return content.decode("utf-8", errors="backslashreplace")
