"""A copy of a workspace in which files are broken, members are tested, and `headrace affected` is asked."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace.affected.members import Difference, touched
from headrace.tools.git import WORKING_TREE, Repository
from headrace.tools.uv_lock import Lock

Mutation = Callable[[str, bytes], bytes | None]
"""Returns what is in a file after a change, from its path and what was in it; None where it is deleted."""

_NOT_INHERITED = (
    "HEADRACE_",
    "DAGSTER",
    "PYTEST_",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "UV_COMPILE_BYTECODE",
    "UV_PROJECT",
)
_NO_TESTS = 5  # pytest's exit code where there are none


def deleted(_path: str, _content: bytes) -> None:
    """Delete a file."""


@dataclass(frozen=True)
class Checkout:
    """A git repository with the files of a workspace in one commit.

    Args:
        root: its folder.
        files: the paths of its files.
    """

    root: Path
    files: Sequence[str]

    @classmethod
    def copied(cls, workspace: Path, root: Path) -> "Checkout":
        """Copy what git knows of a workspace, with what is not committed, and commit it."""
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, check=True, cwd=workspace, capture_output=True, text=True).stdout
        files = sorted(name for name in filter(None, listed.split("\0")) if (workspace / name).is_file())
        for name in files:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(workspace / name, root / name)
        return cls.committed(root, files)

    @classmethod
    def committed(cls, root: Path, files: Sequence[str]) -> "Checkout":
        """Commit these files of a folder."""
        identity = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        for command in (["init", "--quiet"], ["add", "--all", "--force"], ["commit", "--quiet", "--message=all"]):
            subprocess.run(["git", *command], check=True, cwd=root, env={**os.environ, **identity})  # noqa: S607
        return cls(root, files)

    @property
    def members(self) -> Mapping[str, str]:
        """Return the folder of each member."""
        return Lock((self.root / "uv.lock").read_text()).members

    @contextmanager
    def changed(self, files: Collection[str], mutation: Mutation) -> Iterator[None]:
        """Change these files, and restore them afterwards."""
        before = {name: (self.root / name).read_bytes() for name in files}
        modes = {name: (self.root / name).stat().st_mode for name in files}
        try:
            for name, content in before.items():
                after = mutation(name, content)
                assert after != content, f"{name}: the mutation changes nothing"
                if after is None:
                    (self.root / name).unlink()
                else:
                    (self.root / name).write_bytes(after)
            yield
        finally:
            for name, content in before.items():
                (self.root / name).write_bytes(content)
                (self.root / name).chmod(modes[name])

    def touched(self, mutation: Mutation, files: Sequence[str] | None = None) -> Mapping[str, Collection[str]]:
        """Return for each file the members that a change of it alone touches, as `headrace affected` says.

        Args:
            mutation: the change.
            files: the files; all of them where it is None.
        """
        repository = Repository(self.root)
        base = repository.commit("HEAD")
        found = {}
        for name in self.files if files is None else files:
            with self.changed([name], mutation):
                found[name] = set(touched(Difference.between(repository, base, WORKING_TREE), tested=True))
        return found

    def environment(self, member: str, folder: Path) -> Path:
        """Install a member with its dependency groups, and nothing else, and return the interpreter."""
        everything = self.members[member] == "."
        subprocess.run(
            # Little of what is installed is imported. The variable alone does not overrule the workspace's `tool.uv`.
            [
                *("uv", "sync", "--locked", "--quiet", "--no-compile-bytecode"),
                *([] if everything else ["--package", member]),
            ],
            check=True,
            cwd=self.root,
            env={**_inherited(), "UV_PROJECT_ENVIRONMENT": str(folder)},
        )
        return folder / "bin" / "python"

    def tested(self, member: str, python: Path, cache: Path, *options: str) -> "Outcome":
        """Run the tests of a member, or those that the options name.

        Args:
            member: the member.
            python: the interpreter.
            cache: an empty folder for pytest's notes.
            options: further arguments of pytest.
        """
        folder = self.members[member]
        paths = [name for name in ("tests", "bench") if (self.root / name).is_dir()] if folder == "." else [folder]
        named = any(not option.startswith("-") for option in options)
        command = [python, "-m", "pytest", "-q", "--tb=short", "--rootdir=.", "--ignore=tests/mutation"]
        done = subprocess.run(
            [*command, "-o", f"cache_dir={cache}", *options, *([] if named else paths)],
            check=False,
            cwd=self.root,
            env={**_inherited(), "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            errors="replace",
        )
        failed = cache / "v" / "cache" / "lastfailed"
        return Outcome(
            passed=done.returncode in (0, _NO_TESTS),
            failed=sorted(json.loads(failed.read_text())) if failed.is_file() else [],
            output=done.stdout + done.stderr,
        )


@dataclass(frozen=True)
class Outcome:
    """How tests went.

    Args:
        passed: whether none failed.
        failed: those that did, or could not be collected.
        output: what pytest said.
    """

    passed: bool
    failed: Sequence[str]
    output: str


def guilty(files: Sequence[str], fails: Callable[[Sequence[str]], bool]) -> Sequence[str]:
    """Return those of these files whose changes make tests fail.

    Args:
        files: files whose changes make them fail together.
        fails: whether tests fail with the changes of some of the files.
    """
    if len(files) == 1:
        return files
    halves = [half for half in (files[: len(files) // 2], files[len(files) // 2 :]) if fails(half)]
    return [name for half in halves for name in guilty(half, fails)] if halves else files


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
