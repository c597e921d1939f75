"""What `headrace affected` compares: merge bases, uncommitted changes, other revisions, and calls that cannot work."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from headrace.cli.main import main
from headrace.tools.git import WORKING_TREE, Change, Repository

if TYPE_CHECKING:
    from conftest import Monorepo

ALONE = "packages/alone/src/alone/rows.py"
BASE = "packages/base/src/base/rows.py"


def one_line(monorepo: Monorepo, *arguments: str, code: int = 2) -> str:
    """Return the one line of a call that fails."""
    result = monorepo.call(*arguments)
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr


def at_origin(monorepo: Monorepo, name: str = "main") -> None:
    """Say that this is what the remote has."""
    monorepo.git("update-ref", f"refs/remotes/origin/{name}", "HEAD")


def test_the_base_is_where_the_branch_left_main(monorepo: Monorepo) -> None:
    monorepo.git("switch", "--quiet", "--create", "branch")
    monorepo.write(ALONE, "rows = 1\n")
    monorepo.commit()
    monorepo.git("switch", "--quiet", "main")
    monorepo.write(BASE, "rows = 1\n")
    monorepo.commit()
    at_origin(monorepo)
    monorepo.git("switch", "--quiet", "branch")
    lines = monorepo.call("--for", "test").stdout.splitlines()
    assert lines == ["members to test:", "  alone", "  root"]
    # What is named is compared as it is: what main has got since is gone here.
    assert monorepo.tested(base="origin/main") == ["alone", "base", "plain", "root", "shop"]


def test_texts_are_those_of_their_files_whatever_the_names_are(monorepo: Monorepo) -> None:
    names = ["new\nline.yml", "a b.yml", "ä.yml", "none.yml", "no\nne.yml", "empty.yml", "last.yml"]
    for name in names:
        if name not in ("none.yml", "no\nne.yml"):
            monorepo.write(name, "" if name == "empty.yml" else f"{name}\n")
    commit = monorepo.commit()
    repository = Repository(monorepo.root)
    assert repository.texts(commit, names) == repository.texts(WORKING_TREE, names)
    assert repository.texts(commit, names)["last.yml"] == "last.yml\n"


def test_a_merge_commit_has_the_changes_of_its_branch(monorepo: Monorepo) -> None:
    monorepo.git("switch", "--quiet", "--create", "branch")
    monorepo.write(ALONE, "rows = 1\n")
    monorepo.commit()
    monorepo.git("switch", "--quiet", "main")
    monorepo.write(BASE, "rows = 1\n")
    monorepo.commit()
    at_origin(monorepo)
    monorepo.git("switch", "--quiet", "branch")
    monorepo.git("merge", "--quiet", "--no-edit", "main")
    assert monorepo.call("--for", "test").stdout.splitlines() == ["members to test:", "  alone", "  root"]
    monorepo.git("switch", "--quiet", "main")
    monorepo.git("merge", "--quiet", "--no-ff", "--no-edit", "branch")
    assert monorepo.tested(base="HEAD^1") == ["alone", "root"]
    assert monorepo.tested(base="HEAD^2") == []
    assert monorepo.tested(base="HEAD^2~1") == ["base", "plain", "root", "shop"]


def test_uncommitted_changes_count(monorepo: Monorepo) -> None:
    assert monorepo.tested(base="HEAD") == []
    monorepo.write(ALONE, "rows = 1\n")
    assert monorepo.tested(base="HEAD") == ["alone", "root"]
    monorepo.git("add", "--all")
    assert monorepo.tested(base="HEAD") == ["alone", "root"]
    monorepo.git("reset", "--quiet", "--hard")
    (monorepo.root / "packages/alone/src/alone/__init__.py").unlink()
    assert monorepo.tested(base="HEAD") == ["alone", "root"]
    monorepo.git("reset", "--quiet", "--hard")
    monorepo.write(".gitignore", "*.log\n")
    monorepo.commit()
    monorepo.write("packages/alone/dbt.log", "noise\n")
    assert monorepo.tested(base="HEAD") == []
    # Out of the index and still there: not deleted.
    monorepo.git("rm", "--quiet", "--cached", "models/orders.sql")
    changes = Repository(monorepo.root).changes("HEAD", WORKING_TREE)
    assert changes == [Change("models/orders.sql", before=True, after=True)]


def test_uncommitted_changes_do_not_count_for_another_head(monorepo: Monorepo) -> None:
    monorepo.write(ALONE, "rows = 1\n")
    first = monorepo.commit()
    monorepo.write("projects/plain/src/plain/rows.py")
    monorepo.commit()
    monorepo.write(BASE, "rows = 1\n")
    assert monorepo.tested("--head", first, base=f"{first}~1") == ["alone", "root"]
    assert monorepo.tested("--head", "main", base=first) == ["base", "plain", "root", "shop"]
    assert monorepo.tested("--head", first, base="main") == ["plain", "root"]


def test_the_head_is_read_where_it_is(monorepo: Monorepo) -> None:
    """Members, claims and rules are those of the revisions, not of what is checked out."""
    before = monorepo.git("rev-parse", "HEAD")
    monorepo.named = sorted(monorepo.members)
    monorepo.member("packages/fresh")
    monorepo.lock()
    head = monorepo.commit()
    monorepo.git("switch", "--quiet", "--detach", before)
    assert monorepo.tested("--head", head, base=before) == ["fresh"]
    assert monorepo.tested("--head", before, base=head) == []


def test_a_workspace_may_be_a_folder_of_its_repository(monorepo: Monorepo) -> None:
    below = monorepo.root / "data"
    below.mkdir()
    for path in monorepo.root.iterdir():
        if path.name not in (".git", "data"):
            path.rename(below / path.name)
    monorepo.commit()
    monorepo.write(f"data/{ALONE}", "rows = 1\n")
    monorepo.write("elsewhere/file")
    first = monorepo.commit()
    monorepo.root = below
    assert monorepo.tested() == ["alone", "root"]
    monorepo.write(BASE, "rows = 1\n")
    assert monorepo.tested(base="HEAD") == ["base", "plain", "root", "shop"]
    monorepo.commit()
    assert monorepo.tested("--head", first, base=f"{first}~1") == ["alone", "root"]
    with Repository(below).worktree(first) as folder:
        assert (folder / ALONE).is_file()
        assert not (folder / BASE).exists()


def test_a_worktree_is_removed_also_after_a_failure(monorepo: Monorepo) -> None:
    hook = monorepo.root / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch checked-out\n")
    hook.chmod(0o755)
    monorepo.write(ALONE, "rows = 1\n")
    seen = []

    def fail(folder: Path) -> None:
        seen.append(folder)
        assert (folder / "uv.lock").is_file()
        assert not (folder / ALONE).exists()
        assert not (folder / "checked-out").exists()
        (folder / "left").mkdir()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), Repository(monorepo.root).worktree("HEAD") as checked_out:
        fail(checked_out)
    assert not seen[0].parent.exists()
    assert monorepo.git("worktree", "list").count("\n") == 0
    assert monorepo.git("status", "--short") == f"?? {ALONE}"


def test_a_shallow_clone_is_told_how_to_deepen(monorepo: Monorepo) -> None:
    monorepo.write(ALONE, "rows = 1\n")
    monorepo.commit()
    first = monorepo.git("rev-parse", "HEAD~1")
    clone = monorepo.root.parent / f"{monorepo.root.name}-clone"
    monorepo.git("clone", "--quiet", "--depth", "1", f"file://{monorepo.root}", str(clone))
    monorepo.root = clone
    message = one_line(monorepo)
    assert "this shallow clone does not reach the merge base of HEAD and origin/main" in message
    assert "git fetch --unshallow" in message
    assert f"{first}: not in this shallow clone: run `git fetch --unshallow`" in one_line(monorepo, "--base", first)
    monorepo.git("fetch", "--quiet", "--depth", "2")
    assert monorepo.tested(base=first) == ["alone", "root"]


def test_calls_that_can_not_work(monorepo: Monorepo) -> None:
    assert "origin/main: no such revision" in one_line(monorepo)
    assert "nowhere: no such revision" in one_line(monorepo, "--base", "nowhere")
    assert "--output=x: no such revision" in one_line(monorepo, "--base", "--output=x")
    assert "nowhere: no such revision" in one_line(monorepo, "--base", "HEAD", "--head", "nowhere")
    monorepo.git("switch", "--quiet", "--orphan", "other")
    monorepo.write("README.md", "other\n")
    monorepo.commit()
    at_origin(monorepo)
    monorepo.git("switch", "--quiet", "main")
    assert "origin/main: has no commit in common with HEAD" in one_line(monorepo)
    assert "'all' is not one of 'test', 'deploy', 'dbt'" in one_line(monorepo, "--for", "all")


def test_without_git_or_a_lock(monorepo: Monorepo) -> None:
    monorepo.git("rm", "--quiet", "uv.lock")
    monorepo.commit()
    monorepo.commit()
    message = one_line(monorepo, "--base", "HEAD~1")
    assert "uv.lock: no readable uv lock: run `uv lock`" in message
    shutil.rmtree(monorepo.root / ".git")
    assert "not a git repository" in one_line(monorepo, "--base", "HEAD")
    monorepo.root = Path("/")
    assert "holds workspace.yaml or uv.lock" in one_line(monorepo, "--base", "HEAD")


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            '[tool.headrace.affected]\ndoc = ["*.md"]',
            "pyproject.toml: [tool.headrace.affected]: unknown key doc: the keys are all",
        ),
        ('[tool.headrace.affected]\ndocs = "*.md"', "pyproject.toml: docs under [tool.headrace] must be a list"),
        ('[tool.headrace]\nowns = "models"', "pyproject.toml: owns under [tool.headrace] must be a list"),
    ],
)
def test_a_table_that_says_what_there_is_not(monorepo: Monorepo, table: str, expected: str) -> None:
    monorepo.rules = f"{table}\n"
    monorepo.lock()
    assert expected in one_line(monorepo, "--base", "HEAD")


def test_the_command_is_listed() -> None:
    assert "affected" in CliRunner().invoke(main, ["--help"]).stdout
