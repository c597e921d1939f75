"""`headrace affected` where what is locked or installed changes: bumps, groups, extras, and what the lock lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Monorepo

ALL = ["alone", "base", "plain", "root", "shop"]
DEPLOYED = ["alone", "base", "plain", "shop"]


def test_a_tool_of_the_root_touches_the_tests_that_run_with_it_and_no_deploy(monorepo: Monorepo) -> None:
    monorepo.lock("checker-core==2.0")
    monorepo.commit()
    answer = monorepo.affected()
    # `base` is tested with a dependency group of its own.
    assert answer["members"] == ["alone", "plain", "root", "shop"]
    assert answer["reasons"]["alone"] == [["uv.lock", "checker-core 1.0 → 2.0", "alone"]]
    assert monorepo.affected(purpose="deploy") == {
        "members": [],
        "deploy": [],
        "dbt": [],
        "assets": [],
        "contracts": False,
        "reasons": {},
    }


def test_a_member_that_gets_a_group_of_its_own_leaves_the_tools_of_the_root(monorepo: Monorepo) -> None:
    monorepo.member("packages/alone", dev=["maker"])
    monorepo.lock()
    monorepo.commit()
    monorepo.lock("checker-core==2.0")
    monorepo.commit()
    assert monorepo.tested() == ["plain", "root", "shop"]
    monorepo.member("packages/alone")
    monorepo.lock("checker-core==2.0", "checker==2.0")
    monorepo.commit()
    assert ["uv.lock", "checker 1.0 → 2.0", "alone"] in monorepo.affected()["reasons"]["alone"]


def test_a_new_tool_in_the_roots_file_is_not_deployed(monorepo: Monorepo) -> None:
    monorepo.tools.append("maker")
    monorepo.lock()
    monorepo.commit()
    assert monorepo.tested() == ALL
    assert monorepo.deployed() == []


def test_a_dev_group_of_a_member_touches_its_tests(monorepo: Monorepo) -> None:
    monorepo.lock("maker==2.0")
    monorepo.commit()
    assert monorepo.tested() == ["base"]
    assert monorepo.deployed() == []
    monorepo.member("packages/alone", dev=["maker"])
    monorepo.lock("maker==2.0")
    monorepo.commit()
    assert monorepo.tested() == ["alone"]
    assert monorepo.deployed() == []


def test_a_bump_touches_those_whose_closure_has_it(monorepo: Monorepo) -> None:
    monorepo.lock("lib==2.0")
    monorepo.commit()
    assert monorepo.tested() == ["base", "plain", "root", "shop"]
    assert monorepo.deployed() == ["base", "plain", "shop"]


def test_a_bump_behind_an_extra_touches_those_that_ask_for_it(monorepo: Monorepo) -> None:
    monorepo.lock("store-core==2.0")
    monorepo.commit()
    answer = monorepo.affected()
    assert answer["members"] == ["base", "root", "shop"]
    assert answer["deploy"] == ["shop"]
    assert answer["reasons"]["shop"] == [["uv.lock", "store-core 1.0 → 2.0", "shop"]]


def test_a_member_behind_an_extra_touches_those_that_ask_for_it(monorepo: Monorepo) -> None:
    monorepo.member("packages/base", ["lib"], extras={"store": ["store", "alone"]}, dev=["maker"])
    monorepo.lock()
    monorepo.commit()
    monorepo.write("packages/alone/src/alone/rows.py")
    monorepo.commit()
    assert monorepo.tested() == ["alone", "base", "root", "shop"]


def test_an_extra_that_is_dropped_touches_who_dropped_it(monorepo: Monorepo) -> None:
    monorepo.member("projects/shop", ["base"], owns=["models/**"])
    monorepo.lock()
    monorepo.commit()
    assert monorepo.tested() == ["root", "shop"]
    assert ["uv.lock", "base locked differently and 3 more", "shop"] in monorepo.affected()["reasons"]["shop"]


def test_a_lock_that_only_says_more_touches_nobody(monorepo: Monorepo) -> None:
    file = monorepo.root / "uv.lock"
    path = f'{{ path = "{monorepo.wheels}/lib-1.0-py3-none-any.whl" }}'
    lock = file.read_text()
    assert path in lock
    file.write_text(lock.replace(path, '{ url = "https://a/lib-1.0-py3-none-any.whl", hash = "sha256:1" }'))
    monorepo.commit()
    file.write_text(
        lock.replace(
            path, '{ url = "https://b/lib-1.0-py3-none-any.whl", hash = "sha256:1", size = 3, upload-time = "2026" }'
        )
    )
    monorepo.commit()
    assert monorepo.tested() == []
    file.write_text(lock.replace(path, '{ url = "https://b/lib-1.0-py3-none-any.whl", hash = "sha256:2" }'))
    monorepo.commit()
    assert monorepo.tested() == ["base", "plain", "root", "shop"]


def test_a_new_member_that_is_not_locked_touches_all(monorepo: Monorepo) -> None:
    monorepo.member("packages/fresh")
    monorepo.commit()
    assert monorepo.tested() == ALL
    assert ["packages/fresh/pyproject.toml", "owned by nobody", "alone"] in monorepo.affected()["reasons"]["alone"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("dependencies = []", 'dependencies = ["lib"]'),
        ("dev = []", 'dev = ["maker"]'),
        ("[project.optional-dependencies]", '[project.optional-dependencies]\nmore = ["lib"]'),
        ('version = "0.1"', 'version = "0.2"'),
    ],
)
def test_what_a_member_asks_for_and_the_lock_does_not_say_touches_all_tests(
    monorepo: Monorepo, old: str, new: str
) -> None:
    """`uv run --locked` fails then, of whatever member."""
    file = "packages/alone/pyproject.toml"
    text = (monorepo.root / file).read_text()
    assert old in text
    monorepo.write(file, text.replace(old, new, 1))
    monorepo.commit()
    with pytest.raises(AssertionError, match="needs to be updated"):
        monorepo.uv("lock", "--locked", "--no-index", "--find-links", str(monorepo.wheels))
    assert monorepo.tested() == ALL
    assert monorepo.affected()["reasons"]["plain"] == [[file, "not locked", "plain"]]
    assert monorepo.deployed() == ([] if "dev" in old else ["alone"])
    # A change of another member's lines in the lock is not it.
    monorepo.lock("maker==2.0")
    monorepo.git("checkout", "--quiet", "HEAD~1", "packages/alone/pyproject.toml")
    monorepo.lock("maker==2.0")
    monorepo.write(file, text.replace(old, new, 1))
    assert monorepo.tested(base="HEAD~1") == ALL
    monorepo.lock()
    assert monorepo.tested(base="HEAD~1") == (["alone"] if "dev" in old else ["alone", "root"])


def test_what_uv_does_not_lock_touches_the_member_alone(monorepo: Monorepo) -> None:
    file = monorepo.root / "packages/alone/pyproject.toml"
    file.write_text(file.read_text().replace("[project]", '[project]\ndescription = "alone"', 1))
    monorepo.commit()
    assert monorepo.tested() == ["alone", "root"]
    file.write_text(file.read_text() + "[tool.uv.build-backend]\nmodule-root = 'src'\n")
    monorepo.commit()
    assert monorepo.tested() == ["alone", "root"]


def test_a_lock_that_comes_back_touches_all(monorepo: Monorepo) -> None:
    monorepo.git("rm", "--quiet", "uv.lock")
    monorepo.commit()
    monorepo.lock()
    monorepo.commit()
    assert (monorepo.tested(), monorepo.deployed()) == (ALL, DEPLOYED)
