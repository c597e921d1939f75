"""GitHub's workflows: they run what `headrace ci` runs, for members that there are, with pinned actions."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from headrace.affected.ci import steps
from headrace.affected.report import Affected
from headrace.cli.main import main
from headrace.tools.uv_lock import Lock

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MEMBERS = Lock((ROOT / "uv.lock").read_text()).members
LOCATIONS = sorted(path.name for path in (ROOT / "projects").iterdir() if (path / "pyproject.toml").is_file())

EVERYTHING = Affected(members=sorted(MEMBERS), deploy=LOCATIONS, dbt=[], assets=[], contracts=True, reasons={})


def read(name: str) -> Mapping[str, Any]:
    workflow: Mapping[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())
    return workflow


def jobs() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for file in WORKFLOWS:
        for name, job in read(file.name)["jobs"].items():
            yield file.name, name, job


def commands(job: Mapping[str, Any]) -> list[str]:
    return [step["run"] for step in job.get("steps", ()) if "run" in step]


def test_the_workflow_of_a_pull_request_and_the_command_run_the_same_targets() -> None:
    workflow = {
        (target.group(1), tuple(re.findall(r"([A-Z_]+)=", command)))
        for job in read("ci.yml")["jobs"].values()
        for command in commands(job)
        if (target := re.match(r"make ([a-z-]+)", command))
    }
    here = {
        (step.words[0], tuple(word.partition("=")[0] for word in step.words[1:]))
        for step in steps(EVERYTHING, base="main", state=Path("production"))
    }
    assert workflow == here


def test_the_matrix_is_what_the_command_prints_and_the_root_needs_all_jobs() -> None:
    pull_request = read("ci.yml")["jobs"]
    assert pull_request["test"]["strategy"]["matrix"] == {"member": "${{ fromJSON(needs.affected.outputs.members) }}"}
    assert sorted(pull_request["passed"]["needs"]) == sorted(set(pull_request) - {"passed"})
    location = read("deploy.yml")["jobs"]["location"]
    assert location["strategy"]["matrix"] == {"location": "${{ fromJSON(needs.affected.outputs.deploy) }}"}
    outputs = {
        output.removeprefix("${{ steps.affected.outputs.").removesuffix(" }}")
        for name in ("ci.yml", "deploy.yml")
        for output in read(name)["jobs"]["affected"]["outputs"].values()
    }
    assert outputs - {"base"} <= set(Affected.__dataclass_fields__)


@pytest.mark.parametrize("member", sorted(MEMBERS))
def test_a_member_of_the_matrix_has_a_folder_tests_and_tools_of_its_own(member: str) -> None:
    folder = ROOT / MEMBERS[member]
    pyproject = tomllib.loads((folder / "pyproject.toml").read_text())
    assert pyproject["project"]["name"] == member
    assert {"pytest", "pytest-timeout", "pytest-xdist"} <= set(pyproject["dependency-groups"]["dev"])
    assert list((folder / "tests").rglob("test_*.py"))


def test_what_workflows_and_scripts_call_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    called = "\n".join(command for _, _, job in jobs() for command in commands(job))
    scripts = [path for path in (ROOT / ".ci").iterdir() if path.is_file()]
    called += "".join(path.read_text() for path in scripts)
    for target in re.findall(r"^\s*make ([a-z-]+)", called, re.MULTILINE):
        assert target in targets
    for script in re.findall(r"(?<![\w/])\.ci/[\w-]+", called + makefile):
        assert (ROOT / script).stat().st_mode & 0o111, script
    verbs = set(re.findall(r"(?<![\w/.@-])headrace ([a-z-]+)", re.sub(r"--package headrace|#.*", "", called)))
    assert verbs <= set(main.list_commands(click.Context(main)))


def test_every_action_is_pinned_by_commit_with_its_version_beside_it() -> None:
    for file in WORKFLOWS:
        for used in re.findall(r"uses: (.+)", file.read_text()):
            assert used.startswith("./.github/") or re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used), used
    pins = {used for file in WORKFLOWS for used in re.findall(r"uses: ([^.\s].+)", file.read_text())}
    assert len(pins) == len({pin.partition("@")[0] for pin in pins})


def test_a_job_has_a_deadline_and_the_permissions_that_it_names() -> None:
    for file, name, job in jobs():
        assert read(file)["permissions"] == {}, file
        assert "permissions" in job, (file, name)
        assert "uses" in job or "timeout-minutes" in job, (file, name)
        for step in job.get("steps", ()):
            assert "${{" not in step.get("run", ""), (file, name, "expressions reach a shell through env alone")
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False, (file, name)


def test_the_linters_of_workflows_find_nothing() -> None:
    beside = Path(sys.executable).parent
    for command in (["actionlint"], ["zizmor", "--offline", "--quiet", ".github"]):
        done = subprocess.run(
            [beside / command[0], *command[1:]], check=False, cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_root_is_told_by_the_name_that_installs_its_browser() -> None:
    conditions = [step.get("if") for step in read("ci.yml")["jobs"]["test"]["steps"]]
    root = next(name for name, folder in MEMBERS.items() if folder == ".")
    assert f"matrix.member == '{root}'" in conditions


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([{"name": "a", "version": "1", "vulns": []}], 0, "1 of 1 packages audited: 0 known vulnerabilities"),
        ([{"name": "a", "skip_reason": "not found"}], 0, "not audited: the data of 1 packages cannot be reached"),
        (
            [
                {"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["1.1", "2"]}]},
                {"name": "b", "version": "1", "vulns": [{"id": "CVE-2", "fix_versions": []}]},
                {"name": "c", "skip_reason": "not found"},
            ],
            1,
            "a 1: CVE-1, mended in: 1.1, 2\nb 1: CVE-2, mended in: none yet\n"
            "2 of 3 packages audited: 2 known vulnerabilities",
        ),
    ],
)
def test_a_known_vulnerability_fails_and_what_could_not_be_asked_is_said(
    tmp_path: Path, packages: list[dict[str, Any]], code: int, said: str
) -> None:
    (tmp_path / "report.json").write_text(json.dumps({"dependencies": packages}))
    command = [sys.executable, ROOT / ".ci/audit", tmp_path / "report.json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, f"{said}\n")
