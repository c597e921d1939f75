"""The shell blocks of the documentation: each is run by a test here, or says why not and what covers it.

A marker is an HTML comment in the line before a block:

    <!-- not run: REASON -->     a `sh` block that is not run
    <!-- exit code: 1 -->        what a `sh` block ends with, if that is not 0
    <!-- file: PATH -->          a block of any language that is written to PATH in the checkout for later blocks
    <!-- output -->              lines that the block before has printed; `...` stands for any text
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "packages/*/README.md", "projects/*/README.md", "d*/README.md")
    for path in ROOT.glob(pattern)
)
# The blocks of these pages run, in their order.
RUN = ("docs/tutorial.md", "docs/configuration.md")

_BLOCK = re.compile(r"(?:^<!-- (?P<marker>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Args:
        line: the line of its fence, from 1.
        language: the word after the fence.
        text: its lines.
        marker: the word of its marker, or nothing.
        value: what follows the marker's word.
    """

    line: int
    language: str
    text: str
    marker: str
    value: str


def blocks(page: str) -> Iterator[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        marker, _, value = (found["marker"] or "").partition(":")
        line = text.count("\n", 0, found.start("language")) + 1
        yield Block(line, found["language"], found["text"], marker, value.strip())


@pytest.mark.parametrize("page", PAGES)
def test_a_block_runs_or_says_why_not(page: str) -> None:
    silent = [
        block.line
        for block in blocks(page)
        if block.language == "sh" and page not in RUN and (block.marker != "not run" or not block.value)
    ]
    assert silent == [], f"{page}: run these blocks, or write why not: <!-- not run: REASON -->"


@pytest.mark.parametrize("page", PAGES)
def test_what_covers_a_block_is_there(page: str) -> None:
    named = [path for block in blocks(page) for path in re.findall(r"[\w/]+\.py", block.value)]
    assert [path for path in named if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_block_is_fenced_with_its_language(page: str) -> None:
    assert [block.line for block in blocks(page) if not block.language] == []
    prose = _BLOCK.sub("", (ROOT / page).read_text(encoding="utf-8"))
    indented = re.findall(r"\n\n    (?:make|headrace|dg|git|export|eval|uv|pytest|cd) [^\n]*", prose)
    assert indented == []


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clone of this checkout with its uncommitted files, and a week of exports."""
    folder = tmp_path_factory.mktemp("docs") / "headrace"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, folder], check=True)  # noqa: S607
    changed = subprocess.run(
        ["git", "ls-files", "--modified", "--others", "--exclude-standard", "-z"],  # noqa: S607
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    for name in filter(None, changed):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    for git in (["add", "--all"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x", "--allow-empty"]):
        subprocess.run(["git", *git], check=True, cwd=folder)  # noqa: S607
    week = "headrace demo-data --out .headrace/exports --from 2024-02-10 --to 2024-02-16 --orders-per-day 50"
    assert run(folder, week).returncode == 0
    return folder


def run(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run lines in bash, in an active environment, with the state of the checkout itself."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "DAGSTER_"))}
    return subprocess.run(
        ["bash", "-euc", text],  # noqa: S607
        check=False,
        cwd=folder,
        env=inherited
        | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "HEADRACE_START": "2024-02-10"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def missing(shown: str, output: str) -> Sequence[str]:
    """Return the lines of a page that no line of the output is like."""
    lines = output.splitlines()
    return [
        line
        for line in shown.splitlines()
        if not any(re.search(re.escape(line).replace(re.escape("..."), ".*"), each) for each in lines)
    ]


@pytest.mark.some_of("pages whose blocks run", 1)
@pytest.mark.slow("runs the tutorial as a reader does: five main jobs, one after another")
@pytest.mark.timeout(600)  # five main jobs, one after another, as a reader runs them
@pytest.mark.parametrize("page", RUN)
def test_the_blocks_of_a_page(page: str, checkout: Path) -> None:
    output = ""
    for block in blocks(page):
        where = f"{page}:{block.line}"
        if block.marker == "file":
            (checkout / block.value).write_text(block.text, encoding="utf-8")
        elif block.marker == "output":
            assert missing(block.text, output) == [], f"{where}\n{output}"
        elif block.language == "sh" and block.marker != "not run":
            done = run(checkout, block.text)
            output = done.stdout
            expected = int(block.value) if block.marker == "exit code" else 0
            assert done.returncode == expected, f"{where}\n{block.text}\n{output}"


def test_a_line_that_was_not_printed_is_missed() -> None:
    assert missing("a ... z\nb\n", "x a b z\n") == []
    assert missing("a ... z\nc\n", "x a b z\n") == ["c"]
