"""The closures of a `uv.lock` are those that `uv export` prints, of random workspaces."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from headrace.tools.uv_lock import Closure, Lock, LockError

if TYPE_CHECKING:
    from conftest import Monorepo

LIBRARIES = ("lib", "store", "checker", "maker", "store-core", "checker-core")


def exported(monorepo: Monorepo, member: str, *options: str) -> set[str]:
    """Return the lines of `uv export`: `name==version`, and the folder of a member."""
    output = monorepo.uv("export", "--quiet", "--frozen", "--no-hashes", "--package", member, *options)
    lines = (line.partition(" ;")[0].strip() for line in output.splitlines() if not line.startswith((" ", "#")))
    return {line.removeprefix("-e ").removeprefix("./") for line in lines if line and line != "-e ."}


def lines_of(closure: Closure, lock: Lock) -> set[str]:
    """Return a closure as such lines."""
    found = set()
    for name, versions in closure.versions.items():
        if name in lock.members:
            found.add(lock.members[name])
        else:
            found.update(f"{name}=={version}" for version in versions.split(", "))
    return found - {"."}


def assert_equal(monorepo: Monorepo) -> None:
    lock = Lock((monorepo.root / "uv.lock").read_text())
    for member in lock.members:
        # uv does not install a project without a build system on which no other member depends.
        itself = {lock.members[member]}
        for tested, options in ((True, []), (False, ["--no-default-groups"])):
            expected = exported(monorepo, member, "--all-extras", *options)
            assert lines_of(lock.closure(member, tested=tested), lock) - itself == expected - itself, (member, tested)
    assert lock.root is not None
    pruned = [word for member in lock.members if member != lock.root for word in ("--prune", member)]
    assert lines_of(lock.tools, lock) == exported(monorepo, lock.root, "--only-group", "dev", *pruned)


@pytest.mark.parametrize("seed", range(6))
def test_a_random_workspace(no_members: Monorepo, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a seeded workspace
    monorepo = no_members
    names: list[str] = []
    extras: dict[str, list[str]] = {}

    def some(many: int) -> list[str]:
        wanted = chance.sample(LIBRARIES, chance.randint(0, 2))
        for name in chance.sample(names, min(len(names), chance.randint(0, many))):
            asked = chance.choice(extras[name] or [""])
            wanted.append(f"{name}[{asked}]" if asked and chance.random() < 0.6 else name)
        return wanted

    for index in range(9):
        name = f"member-{index}"
        has = {f"extra-{letter}": some(1) for letter in "ab" if chance.random() < 0.5}
        monorepo.member(f"packages/{name}", some(2), extras=has, dev=some(1) if chance.random() < 0.5 else ())
        names.append(name)
        extras[name] = [*has]
    monorepo.named = [name for name in names if chance.random() < 0.7]
    monorepo.lock(*(f"{name}=={chance.choice(['1.0', '2.0'])}" for name in LIBRARIES))
    assert_equal(monorepo)


@pytest.mark.parametrize("text", ["", "version = 2\n", "[[package]\n"])
def test_a_lock_of_another_format_is_refused(text: str) -> None:
    with pytest.raises(LockError):
        Lock(text)
