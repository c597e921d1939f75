"""What editors, a dev container and the hook before a commit read: it names what this workspace has."""

import configparser
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TARGETS = dict(re.findall(r"^([a-z-]+):([^#\n]*)", (ROOT / "Makefile").read_text(), re.MULTILINE))


def read(name: str) -> Any:
    return json.loads((ROOT / name).read_text())


def test_the_dev_container_has_a_python_of_the_workspace_and_installs_it() -> None:
    container = read(".devcontainer/devcontainer.json")
    version = re.fullmatch(r"mcr\.microsoft\.com/devcontainers/python:(3\.\d+)-bookworm", container["image"])
    assert version
    assert version.group(1) in SpecifierSet(PYPROJECT["project"]["requires-python"])
    make, target = container["postCreateCommand"].split()
    assert (make, target in TARGETS) == ("make", True)
    assert container["forwardPorts"] == [3000]
    assert set(container["portsAttributes"]) == {"3000"}


def test_both_lists_of_extensions_are_one() -> None:
    recommended = read(".vscode/extensions.json")["recommendations"]
    assert read(".devcontainer/devcontainer.json")["customizations"]["vscode"]["extensions"] == recommended
    assert sorted(recommended) == recommended
    formatters = [settings["editor.defaultFormatter"] for settings in [read(".vscode/settings.json")["[python]"]]]
    assert set(formatters) <= set(recommended)


def test_editors_and_ruff_break_lines_alike() -> None:
    rules = configparser.ConfigParser()
    rules.read_string("[root]\n" + (ROOT / ".editorconfig").read_text())
    assert rules["root"]["root"] == "true"
    assert rules["*"]["max_line_length"] == str(PYPROJECT["tool"]["ruff"]["line-length"])
    assert rules["Makefile"]["indent_style"] == "tab"


@pytest.mark.slow
def test_the_hook_before_a_commit_is_the_fast_part_of_the_checks() -> None:
    command = [Path(sys.executable).with_name("pre-commit"), "validate-config", ROOT / ".pre-commit-config.yaml"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (hook,) = repository["hooks"]
    assert (repository["repo"], hook["language"], hook["entry"]) == ("local", "system", "make check-fast")
    assert "check-fast" in TARGETS["check"].split()


def test_files_of_editors_are_the_roots_alone() -> None:
    # A file that nobody owns bears on all members.
    owned = PYPROJECT["tool"]["headrace"]["owns"]
    assert {".devcontainer/**", ".editorconfig", ".pre-commit-config.yaml", ".vscode/**"} <= set(owned)
