"""How long `headrace affected` takes on a generated workspace of 100 members and 5,000 dbt models, without dbt."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Monorepo

# A workspace of 5,000 models is written, and uv locks it twice.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

HEADRACE = Path(sys.executable).parent / "headrace"

MEMBERS = 100
MODELS = 5_000
LIBRARIES = 400


@pytest.fixture
def large(no_members: Monorepo, make_wheel: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Monorepo:
    """Make the workspace: a member needs up to three earlier ones and twenty libraries, each of which needs others."""
    chance = random.Random(5)  # noqa: S311 - a seeded workspace
    repo = no_members
    repo.wheels = tmp_path_factory.mktemp("libraries")
    repo.tools = []
    for index in range(LIBRARIES):
        below = chance.sample(range(index), min(index, 3))
        make_wheel(repo.wheels, f"library-{index}", "1.0", [f"library-{one}" for one in below])
    make_wheel(repo.wheels, "library-0", "2.0")
    for index in range(MEMBERS):
        needs = [f"member-{one:03}" for one in chance.sample(range(index), min(index, chance.randint(0, 3)))]
        needs += [f"library-{one}" for one in chance.sample(range(LIBRARIES), 20)]
        repo.member(f"packages/member-{index:03}", needs, owns=["dbt/**"] if index == MEMBERS - 1 else ())
        for number in range(30):
            repo.write(f"packages/member-{index:03}/src/member_{index:03}/module_{number}.py", "rows = 1\n")
    for index in range(MODELS):
        repo.write(f"dbt/models/area_{index % 50}/model_{index}.sql", f"select {index} as number\n")
    entries = [f"  - python_module: member_{index:03}.definitions\n" for index in range(0, MEMBERS, 5)]
    repo.write("workspace.yaml", f"load_from:\n{''.join(entries)}")
    repo.lock("library-0==1.0")
    repo.commit()
    return repo


def seconds(repo: Monorepo, *arguments: str) -> tuple[float, str]:
    began = time.monotonic()
    command = [HEADRACE, "affected", "--base", "HEAD~1", "--for", "test", *arguments]
    done = subprocess.run(command, check=True, cwd=repo.root, env=os.environ, capture_output=True, text=True)
    return time.monotonic() - began, done.stdout


def test_a_large_workspace(large: Monorepo, record_property: Callable[[str, object], None]) -> None:
    taken = {}
    large.write("packages/member-000/src/member_000/module_1.py", "rows = 2\n")
    large.commit()
    taken["one file"], output = seconds(large)
    assert 10 < output.count("\n  member-") < MEMBERS
    for path in (large.root / "dbt/models").rglob("*.sql"):
        path.write_text("select 0 as number\n")
    large.commit()
    taken["every model"], output = seconds(large)
    assert output.splitlines() == ["members to test:", f"  member-{MEMBERS - 1:03}", "  root"]
    large.lock("library-0==2.0")
    large.commit()
    taken["a bump"], output = seconds(large)
    assert 50 < output.count("\n  member-") <= MEMBERS
    measured = ", ".join(f"{what} {took:.2f} s" for what, took in taken.items())
    record_property("measured", f"headrace affected, {MEMBERS} members and {MODELS} models: {measured}")
