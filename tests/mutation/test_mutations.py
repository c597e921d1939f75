"""No test of a member fails by a change that does not touch the member, as `headrace affected` says.

To break one file after the other and run all tests each time would take days. So it is turned round: for each member,
all files whose change does not touch it are broken at once, and its tests have to pass.

A quarter of the files and one of the members are chosen where `HEADRACE_THOROUGH` is not set: others for each revision,
the same ones for the same revision.
"""

import os
import random
import statistics
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from checkout import Checkout, Mutation, deleted, guilty
from mutations import is_broken, mutated

from headrace.tools.uv_lock import Lock

pytestmark = [
    pytest.mark.slow("installs a member alone, and runs its fast tests on a copy in which files are broken"),
    pytest.mark.timeout(7200),
]

ROOT = Path(__file__).parents[2]
MEMBERS: Mapping[str, str] = Lock((ROOT / "uv.lock").read_text()).members
MUTATIONS: Mapping[str, Mutation] = {"broken": mutated, "deleted": deleted}
_STAGED = subprocess.run(["git", "ls-files", "--stage"], check=False, cwd=ROOT, capture_output=True).stdout  # noqa: S607
Answers = dict[str, Mapping[str, Collection[str]]]
"""For each kind of change and each file the members that it touches."""


def chosen(everything: Sequence[str], number: int, config: pytest.Config) -> Sequence[str]:
    """Return a number of these, by what is staged; all of them where that is asked for."""
    if os.environ.get("HEADRACE_THOROUGH") or every_test(config):
        return everything
    return sorted(random.Random(_STAGED).sample(everything, number))  # noqa: S311 - a choice, not a secret


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "member" in metafunc.fixturenames:
        metafunc.parametrize("member", chosen([*MEMBERS], 1, metafunc.config))


@pytest.fixture(scope="session")
def checkout() -> Iterator[Checkout]:
    # A folder of pytest's own is closed to the other users, as one of which a test reads the members.
    with TemporaryDirectory(prefix="headrace-mutations-") as folder:
        Path(folder).chmod(0o755)
        yield Checkout.copied(ROOT, Path(folder).resolve() / "workspace")


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the environment that each member is installed into in turn.

    uv removes what the next one does not have. What both have keeps its bytecode, which takes longer than the tests.
    """
    return tmp_path_factory.mktemp("environment")


@pytest.fixture(scope="session")
def answers(checkout: Checkout, pytestconfig: pytest.Config) -> Answers:
    kinds = MUTATIONS if every_test(pytestconfig) else ["broken"]
    files = chosen(checkout.files, len(checkout.files) // 4, pytestconfig)
    return {kind: checkout.touched(MUTATIONS[kind], files) for kind in kinds}


def every_test(config: pytest.Config) -> bool:
    # Where pytest was not told of this folder, it has not read the option.
    return bool(config.getoption("--every-test", default=False))


def misses(
    checkout: Checkout,
    member: str,
    python: Path,
    *options: str,
    notes: Path,
    mutation: Mutation,
    files: Sequence[str],
) -> Sequence[str]:
    """Return those of these files that make a member's tests fail."""
    with checkout.changed(files, mutation):
        outcome = checkout.tested(member, python, notes / "first", *options)
    if outcome.passed:
        return []

    def fails(some: Sequence[str]) -> bool:
        with checkout.changed(some, mutation):
            return not checkout.tested(member, python, notes / "again", *options, *outcome.failed).passed

    # A test that measures time may fail on a busy machine, whatever the files are.
    if not fails(files):
        return []
    assert not fails([]), f"{member}: its tests fail without any change:\n{outcome.output}"
    return guilty(files, fails)


def test_no_test_fails_by_what_does_not_touch_its_member(
    *,
    member: str,
    checkout: Checkout,
    answers: Answers,
    environment: Path,
    tmp_path: Path,
    pytestconfig: pytest.Config,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = [] if every_test(pytestconfig) else ["-mnot slow"]
    python = checkout.environment(member, environment)
    folder = MEMBERS[member]
    own = [name for name in checkout.files if name.startswith(f"{folder}/src/") and name.endswith("__init__.py")]
    for kind, touched in answers.items():
        files = [name for name, members in touched.items() if member not in members]
        with capsys.disabled():
            print(f"\n{member}: {len(files)} of {len(touched)} files {kind} at once")  # noqa: T201 - a measurement
        found = misses(checkout, member, python, *options, notes=tmp_path / kind, mutation=MUTATIONS[kind], files=files)
        assert not found, f"{member}: its tests fail by a change that is said not to touch it: {found}"
    # Its tests read the checkout, and not the workspace that the copy is of.
    has_tests = any(name.startswith(f"{folder}/tests/") for name in checkout.files)
    with checkout.changed(own, mutated):
        assert not own or not has_tests or not checkout.tested(member, python, tmp_path / "own", "-x", *options).passed


def test_most_changes_of_one_file_touch_few_members(answers: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, touched in answers.items():
        shares = [len(members) / len(MEMBERS) for members in touched.values()]
        everyone = sum(share == 1 for share in shares)
        median, mean = statistics.median(shares), statistics.mean(shares)
        with capsys.disabled():
            print(  # noqa: T201 - a measurement
                f"\n{len(touched)} files, each {kind} alone: they touch {median:.0%} of {len(MEMBERS)} members "
                f"in the median and {mean:.0%} in the mean; {everyone} touch all"
            )
        assert median < 0.5


def test_a_mutation_breaks_its_file(checkout: Checkout) -> None:
    kinds = set()
    for name in checkout.files:
        if not name.endswith("pyproject.toml"):
            kinds.add(Path(name).suffix)
            content = (checkout.root / name).read_bytes()
            assert mutated(name, content) != content
            assert is_broken(name, mutated(name, content)), name
            assert name.endswith(".py") or not content or not is_broken(name, content), name
    assert kinds >= {".py", ".sql", ".yml", ".csv", ".md", ".png", ".lock", ".typed", ""}


def test_a_pyproject_loses_what_uv_does_not_read() -> None:
    text = '[project]\nname = "a"\n\n[tool.uv.sources]\nb = 1\n\n[tool.headrace]\nowns = []\n\n[build-system]\nc = 1\n'
    assert mutated("a/pyproject.toml", text.encode()) == b'[project]\nname = "a"\n\n[tool.uv.sources]\nb = 1\n\n'


LOCK = """version = 1
[manifest]
members = ["base", "shop"]
[[package]]
name = "base"
source = { editable = "base" }
[[package]]
name = "shop"
source = { editable = "shop" }
DEPENDENCIES
"""


@pytest.mark.some_of("planted misses", 1)
@pytest.mark.parametrize(("kind", "expected"), [("broken", ["base/rows.py", "base/sales.csv"]), ("deleted", None)])
def test_a_miss_is_found_and_named(tmp_path: Path, kind: str, expected: Sequence[str] | None) -> None:
    """A member that reads another without depending on it, in a workspace of two."""
    root = tmp_path / "workspace"
    files = {
        "base/pyproject.toml": '[project]\nname = "base"\n[build-system]\n',
        "base/rows.py": "ROWS = 1\n",
        "base/sales.csv": "id\n1\n",
        **{f"base/other_{index}.py": "" for index in range(5)},
        "shop/pyproject.toml": '[project]\nname = "shop"\n[build-system]\n',
        "shop/test_shop.py": (
            "import runpy\nfrom pathlib import Path\n\nBASE = Path(__file__).parents[1] / 'base'\n\n"
            "def test_rows():\n    assert runpy.run_path(str(BASE / 'rows.py'))['ROWS'] == 1\n\n"
            "def test_sales():\n    assert (BASE / 'sales.csv').read_text() == 'id\\n1\\n'\n\n"
            "def test_nothing():\n    pass\n"
        ),
    }
    for dependencies, found in (("", expected or ["base/rows.py", "base/sales.csv"]), ('[{ name = "base" }]', [])):
        there = root / ("declared" if dependencies else "undeclared")
        lock = LOCK.replace("DEPENDENCIES", f"dependencies = {dependencies}" if dependencies else "")
        for name, text in {**files, "uv.lock": lock}.items():
            (there / name).parent.mkdir(parents=True, exist_ok=True)
            (there / name).write_text(text)
        checkout = Checkout.committed(there, [*files])
        touched = checkout.touched(MUTATIONS[kind])
        hidden = [name for name in files if "shop" not in touched[name]]
        python = Path(sys.executable)
        notes = tmp_path / f"notes {len(found)}"
        assert misses(checkout, "shop", python, notes=notes, mutation=MUTATIONS[kind], files=hidden) == found
