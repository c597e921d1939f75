"""`headrace affected` on throwaway workspaces: which members each kind of change touches, and why."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Monorepo

ALL = ["alone", "base", "plain", "root", "shop"]
DEPLOYED = ["alone", "base", "plain", "shop"]


def test_a_file_touches_its_member_and_what_depends_on_it(monorepo: Monorepo) -> None:
    monorepo.write("packages/base/src/base/rows.py", "rows = 1\n")
    monorepo.commit()
    answer = monorepo.affected()
    assert answer["members"] == ["base", "plain", "root", "shop"]
    assert answer["deploy"] == ["plain", "shop"]
    assert answer["contracts"] is True
    assert answer["dbt"] == answer["assets"] == []
    file = "packages/base/src/base/rows.py"
    assert answer["reasons"]["base"] == [[file, "base"]]
    assert answer["reasons"]["plain"] == [[file, "base", "plain"]]
    assert answer["reasons"]["root"] == [[file, "base", "root"]]
    monorepo.write("packages/alone/src/alone/rows.py", "rows = 1\n")
    monorepo.commit()
    answer = monorepo.affected()
    assert (answer["members"], answer["deploy"], answer["contracts"]) == (["alone", "root"], [], False)


def test_the_ways_to_a_member_are_told_the_shortest_first(monorepo: Monorepo) -> None:
    monorepo.write("packages/base/src/base/rows.py", "rows = 1\n")
    monorepo.write("projects/shop/src/shop/definitions.py")
    monorepo.commit()
    assert monorepo.call("--base", "HEAD~1", "--for", "test", "--explain").stdout.splitlines() == [
        "members to test:",
        "  base",
        "    packages/base/src/base/rows.py → base",
        "  plain",
        "    packages/base/src/base/rows.py → base → plain",
        "  root",
        "    packages/base/src/base/rows.py → base → root",
        "    projects/shop/src/shop/definitions.py → shop → root",
        "  shop",
        "    projects/shop/src/shop/definitions.py → shop",
        "    packages/base/src/base/rows.py → base → shop",
        "contracts: run `headrace contract check`",
    ]


def test_workflows_read_lines_of_json(monorepo: Monorepo) -> None:
    monorepo.write("projects/shop/src/shop/definitions.py")
    monorepo.commit()
    lines = monorepo.call("--base", "HEAD~1", "--for", "test", "--format", "github").stdout.splitlines()
    outputs = dict(line.split("=", 1) for line in lines)
    assert {name: json.loads(value) for name, value in outputs.items()} == {
        "members": ["root", "shop"],
        "deploy": ["shop"],
        "dbt": [],
        "assets": [],
        "contracts": True,
    }


def test_a_file_that_moves_touches_both_members(monorepo: Monorepo) -> None:
    monorepo.write("packages/alone/src/alone/rows.py", "rows = 1\n" * 50)
    monorepo.commit()
    monorepo.git("mv", "packages/alone/src/alone/rows.py", "projects/plain/src/plain/rows.py")
    monorepo.git("config", "diff.renames", "copies")
    monorepo.commit()
    assert monorepo.tested() == ["alone", "plain", "root"]


def test_a_new_member_is_tested_with_its_dependents(monorepo: Monorepo) -> None:
    monorepo.named = sorted(monorepo.members)
    monorepo.member("packages/fresh")
    monorepo.member("projects/plain", ["base", "fresh"])
    monorepo.lock()
    monorepo.commit()
    answer = monorepo.affected()
    assert answer["members"] == ["fresh", "plain", "root"]
    assert ["packages/fresh/pyproject.toml", "fresh", "plain"] in answer["reasons"]["plain"]
    assert monorepo.deployed() == ["fresh", "plain"]


def test_a_deleted_member_touches_what_depended_on_it(monorepo: Monorepo) -> None:
    monorepo.named = ["base", "plain", "shop"]
    monorepo.lock()
    monorepo.commit()
    monorepo.git("rm", "-r", "--quiet", "packages/alone")
    monorepo.lock()
    monorepo.commit()
    assert monorepo.tested() == []
    monorepo.named = ["plain", "shop"]
    for name in ("shop", "plain"):
        monorepo.member(f"projects/{name}")
    monorepo.lock()
    monorepo.commit()
    monorepo.git("rm", "-r", "--quiet", "packages/base")
    monorepo.lock()
    monorepo.commit()
    answer = monorepo.affected(base="HEAD~2")
    assert answer["members"] == ["plain", "root", "shop"]
    assert ["packages/base/README.md", "base", "plain"] in answer["reasons"]["plain"]


def test_files_that_are_claimed_elsewhere(monorepo: Monorepo) -> None:
    monorepo.write("models/orders.sql", "select 2\n")
    monorepo.commit()
    assert monorepo.tested() == ["root", "shop"]
    assert monorepo.deployed() == ["shop"]
    monorepo.git("mv", "models/orders.sql", "models/sales.sql")
    monorepo.commit()
    assert monorepo.tested() == ["root", "shop"]
    # Whoever claimed it before, where the claim goes with the change.
    monorepo.member("projects/shop", ["base[store]"])
    monorepo.member("packages/alone", owns=["models/**"])
    monorepo.write("models/sales.sql", "select 3\n")
    monorepo.commit()
    assert monorepo.tested() == ["alone", "root", "shop"]
    assert monorepo.deployed() == ["alone", "shop"]


def test_a_file_that_nobody_owns_touches_all(monorepo: Monorepo) -> None:
    monorepo.write("stray.toml")
    monorepo.commit()
    assert monorepo.tested() == ALL
    assert monorepo.deployed() == DEPLOYED
    assert monorepo.affected()["deploy"] == ["plain", "shop"]


@pytest.mark.parametrize("file", ["README.md", "docs/guide.md", "docs/a/b/picture.svg", "packages/base/README.md"])
def test_documents_touch_nobody(monorepo: Monorepo, file: str) -> None:
    monorepo.write(file, "words\n")
    monorepo.commit()
    assert monorepo.tested() == []
    assert monorepo.call("--base", "HEAD~1", "--for", "test").stdout == "nothing is affected\n"


def test_a_document_touches_who_claims_it_by_its_path(monorepo: Monorepo) -> None:
    monorepo.member("packages/alone", owns=["docs/guide.md", "docs/*.rst"])
    monorepo.commit()
    monorepo.write("docs/guide.md", "words\n")
    monorepo.commit()
    assert monorepo.affected()["reasons"]["alone"] == [["docs/guide.md", "alone"]]
    monorepo.write("docs/other.rst", "words\n")
    monorepo.commit()
    assert monorepo.tested() == []


def test_a_document_that_is_gone_touches_its_member(monorepo: Monorepo) -> None:
    monorepo.git("rm", "--quiet", "packages/base/README.md", "docs/guide.md")
    monorepo.commit()
    assert monorepo.tested() == ["base", "plain", "root", "shop"]


def test_root_files_touch_all_and_some_no_deploy(monorepo: Monorepo) -> None:
    monorepo.write("workspace.yaml", (monorepo.root / "workspace.yaml").read_text() + "# all\n")
    monorepo.commit()
    assert (monorepo.tested(), monorepo.deployed()) == (ALL, DEPLOYED)
    monorepo.write("Makefile", "all: test\n")
    monorepo.commit()
    assert (monorepo.tested(), monorepo.deployed()) == (ALL, [])
    file = monorepo.root / "pyproject.toml"
    file.write_text(file.read_text() + "[tool.ruff]\nline-length = 99\n")
    monorepo.commit()
    assert (monorepo.tested(), monorepo.deployed()) == (ALL, [])
    file.write_text(file.read_text() + "[tool.dg]\nx = 1\n")
    monorepo.commit()
    assert (monorepo.tested(), monorepo.deployed()) == (ALL, DEPLOYED)


def test_tests_touch_their_member_alone_and_no_deploy(monorepo: Monorepo) -> None:
    monorepo.write("packages/base/tests/test_base.py", "rows = 1\n")
    monorepo.commit()
    assert (monorepo.tested(), monorepo.deployed()) == (["base"], [])
    monorepo.write("tests/test_all.py", "rows = 1\n")
    monorepo.commit()
    assert (monorepo.tested(), monorepo.deployed()) == (["root"], [])


def test_names_and_contents_of_any_kind(monorepo: Monorepo) -> None:
    for index, name in enumerate(["a picture.png", "smørbrød «1».csv", "new\nline.txt", "tab\t.txt", 'quote".txt']):
        monorepo.write(f"packages/alone/data/{name}", bytes(range(256)) * (index + 1))
        monorepo.commit()
        answer = monorepo.affected()
        assert answer["members"] == ["alone", "root"]
        assert answer["reasons"]["alone"] == [[f"packages/alone/data/{name}", "alone"]]
    monorepo.write("packages/alone/data/a picture.png", b"\0")
    monorepo.commit()
    assert monorepo.tested() == ["alone", "root"]


def test_a_name_that_is_no_unicode(monorepo: Monorepo) -> None:
    Path(os.fsdecode(os.fsencode(monorepo.root / "packages/alone") + b"/\xff.txt")).write_text("x")
    monorepo.commit()
    assert monorepo.affected()["reasons"]["alone"] == [["packages/alone/\\xff.txt", "alone"]]
    assert monorepo.call("--base", "HEAD~1", "--for", "test", "--explain").exit_code == 0


def test_a_change_of_mode_and_a_link(monorepo: Monorepo) -> None:
    (monorepo.root / "packages/alone/src/alone/__init__.py").chmod(0o755)
    monorepo.commit()
    assert monorepo.tested() == ["alone", "root"]
    (monorepo.root / "packages/alone/link").symlink_to("../base")
    monorepo.commit()
    assert monorepo.tested() == ["alone", "root"]


def test_what_is_broken_touches_all_it_may_bear_on(monorepo: Monorepo) -> None:
    """A change that breaks what is read is one that has to be tested, not an error."""
    for file, expected in (
        ("uv.lock", ALL),
        ("pyproject.toml", ALL),
        ("workspace.yaml", ALL),
        ("packages/alone/pyproject.toml", ALL),
    ):
        for content in ("]] no [[: :\n  -", "", b"\xff\xfe\0"):
            monorepo.write(file, content)
            monorepo.commit()
            answer = monorepo.affected()
            assert answer["members"] == expected, (file, content)
            monorepo.git("reset", "--quiet", "--hard", "HEAD~1")
        monorepo.git("rm", "--quiet", file)
        monorepo.commit()
        assert monorepo.tested() == expected, file
        monorepo.git("reset", "--quiet", "--hard", "HEAD~1")
    monorepo.write("workspace.yaml", "load_from: 7\n")
    assert monorepo.affected(base="HEAD")["deploy"] == ["plain", "shop"]
    result = monorepo.call("--base", "HEAD")
    assert result.exit_code == 1
    assert result.stderr == f"Error: {monorepo.root}/workspace.yaml: no list of code locations: correct it\n"


@pytest.mark.parametrize(
    "table",
    [
        *("project = 3", "tool = 3", "[tool]\nheadrace = 3", "[tool.headrace]\naffected = 3", "[tool]\nuv = 3"),
        *("[tool]\ndg = 3", "[tool.dg]\nproject = 3"),
    ],
)
def test_a_table_that_is_none_touches_all(monorepo: Monorepo, table: str) -> None:
    for file in ("packages/alone/pyproject.toml", "pyproject.toml"):
        before = (monorepo.root / file).read_text()
        monorepo.write(file, f"{table}\n")
        monorepo.commit()
        assert monorepo.tested() == ALL
        monorepo.write(file, before)
        monorepo.commit()
        assert monorepo.tested() == ALL if file == "pyproject.toml" else {"alone", "root"} <= {*monorepo.tested()}


def test_a_claim_that_was_none_can_be_mended(monorepo: Monorepo) -> None:
    file = monorepo.root / "projects/shop/pyproject.toml"
    mended = file.read_text()
    file.write_text(mended.replace('owns = ["models/**"]', 'owns = "models"'))
    monorepo.commit()
    assert "owns under [tool.headrace] must be a list" in monorepo.call("--base", "HEAD~1").stderr
    file.write_text(mended)
    monorepo.commit()
    assert monorepo.tested() == ["shop"]


def test_a_location_of_an_unknown_member_is_deployed_with_any(monorepo: Monorepo) -> None:
    monorepo.write(
        "workspace.yaml",
        "load_from:\n"
        "  - python_file: {relative_path: projects/shop/serve.py, location_name: shop_file}\n"
        "  - python_file: elsewhere/serve.py\n"
        "  - grpc_server: {host: localhost, port: 4266, location_name: remote}\n",
    )
    monorepo.commit()
    monorepo.write("packages/alone/src/alone/rows.py")
    monorepo.commit()
    assert monorepo.affected()["deploy"] == ["remote", "serve.py"]
    monorepo.write("projects/shop/serve.py")
    monorepo.commit()
    assert monorepo.affected()["deploy"] == ["remote", "serve.py", "shop_file"]
    monorepo.write("docs/guide.md", "words\n")
    monorepo.commit()
    assert monorepo.affected()["deploy"] == []


def test_the_rules_are_those_of_the_head(monorepo: Monorepo) -> None:
    monorepo.rules = ""
    monorepo.lock()
    monorepo.commit()
    monorepo.write("docs/guide.md", "words\n")
    monorepo.write("packages/base/tests/test_base.py", "rows = 1\n")
    assert (monorepo.tested(base="HEAD"), monorepo.deployed(base="HEAD")) == (ALL, DEPLOYED)
    monorepo.rules = '[tool.headrace.affected]\ndocs = ["docs/**"]\ntests = ["tests/**"]\n'
    monorepo.lock()
    monorepo.commit()
    assert (monorepo.tested(), monorepo.deployed()) == (ALL, [])


def test_a_root_that_is_no_project(monorepo: Monorepo) -> None:
    monorepo.rules = '[tool.headrace.affected]\nall = ["pyproject.toml"]\n'
    monorepo.lock(root=False)
    monorepo.commit()
    monorepo.lock("checker-core==2.0", root=False)
    monorepo.commit()
    assert (monorepo.tested(), monorepo.deployed()) == (["alone", "plain", "shop"], [])
    monorepo.lock("checker-core==2.0", "store==2.0", root=False)
    monorepo.commit()
    assert monorepo.tested() == ["base", "shop"]
    monorepo.tools = ["checker", "server[web]"]
    monorepo.lock(root=False)
    monorepo.commit()
    monorepo.lock("web-core==2.0", root=False)
    monorepo.commit()
    assert (monorepo.tested(), monorepo.deployed()) == (["alone", "plain", "shop"], [])
