"""Throwaway workspaces for the tests of `headrace affected`: git repositories, locked by uv from wheels made here."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from headrace.cli.main import main

UV = shutil.which("uv", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))

WHEELS: Mapping[str, Sequence[str]] = {
    "lib": (),
    "store": ("store-core",),
    "store-core": (),
    "checker": ("checker-core",),
    "checker-core": (),
    "maker": (),
    "server": ("web-core; extra == 'web'",),
    "web-core": (),
}
"""Packages with what they need; each is there as 1.0 and 2.0."""

RULES = """
[tool.headrace.affected]
all = ["pyproject.toml", "workspace.yaml"]
all-tests = ["Makefile"]
docs = ["*.md", "docs/**", "packages/*/README.md"]
tests = ["tests/**"]
"""


class Monorepo:
    """A uv workspace in a git repository: `base` and what depends on it, a location, a root with tools.

    Args:
        root: an empty folder.
        wheels: the folder of the wheels.
    """

    def __init__(self, root: Path, wheels: Path) -> None:
        self.root = root
        self.wheels = wheels
        self.members: dict[str, str] = {}
        self.rules = RULES
        self.tools = ["checker"]
        self.named: list[str] | None = None  # the members that the root names; all of them where it is None
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        """Run git, as an author of its own and without the user's configuration."""
        identity = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        hidden = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607 - git of the machine
            check=True,
            cwd=self.root,
            env={**os.environ, **identity, **hidden},
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def write(self, path: str, text: str | bytes = "") -> None:
        """Write a file."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())

    def member(
        self,
        path: str,
        needs: Sequence[str] = (),
        *,
        extras: Mapping[str, Sequence[str]] | None = None,
        dev: Sequence[str] = (),
        owns: Sequence[str] = (),
    ) -> None:
        """Write a member, whose name is that of its folder, after the members that it needs; lock afterwards."""
        name = path.rpartition("/")[2]
        self.members[name] = path
        every = (*needs, *dev, *(need for extra in (extras or {}).values() for need in extra))
        sources = {need.partition("[")[0] for need in every} & self.members.keys()
        lines = [
            f'[project]\nname = "{name}"\nversion = "0.1"\nrequires-python = ">=3.11"',
            f"dependencies = {json.dumps([*needs])}",
            "[project.optional-dependencies]",
            *(f"{extra} = {json.dumps([*wanted])}" for extra, wanted in (extras or {}).items()),
            f"[dependency-groups]\ndev = {json.dumps([*dev])}",
            "[tool.uv.sources]",
            *(f"{source} = {{ workspace = true }}" for source in sorted(sources)),
            f"[tool.headrace]\nowns = {json.dumps([*owns])}",
        ]
        self.write(f"{path}/pyproject.toml", "\n".join(lines) + "\n")
        self.write(f"{path}/src/{name.replace('-', '_')}/__init__.py", f'"""{name}"""\n')

    def lock(self, *pins: str, root: bool = True) -> None:
        """Write the root, and lock with the oldest versions, or with those that are given."""
        named = sorted(self.members) if self.named is None else self.named
        sources = "".join(f"{name} = {{ workspace = true }}\n" for name in named)
        dev = json.dumps([*named, *self.tools])
        project = '[project]\nname = "root"\nversion = "0"\nrequires-python = ">=3.11"\n' if root else ""
        self.write(
            "pyproject.toml",
            f"{project}[dependency-groups]\ndev = {dev}\n[tool.uv]\npackage = false\n"
            f'[tool.uv.workspace]\nmembers = ["packages/*", "projects/*"]\n[tool.uv.sources]\n{sources}{self.rules}',
        )
        versions = {**dict.fromkeys(WHEELS, "1.0"), **dict(pin.split("==") for pin in pins)}
        pinned = [word for name, one in versions.items() for word in ("--upgrade-package", f"{name}=={one}")]
        self.uv("lock", "--quiet", "--no-index", "--find-links", str(self.wheels), *pinned)

    def uv(self, *arguments: str) -> str:
        """Run uv, without the network."""
        assert UV, "uv is not installed"
        settings = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
        done = subprocess.run(
            [UV, *arguments, "--offline", "--python", sys.executable],
            check=False,
            cwd=self.root,
            env=settings,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def commit(self) -> str:
        """Commit everything and return the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=change")
        return self.git("rev-parse", "HEAD")

    def call(self, *arguments: str) -> Result:
        """Call `headrace affected` in the workspace."""
        with chdir(self.root):
            return CliRunner().invoke(main, ["affected", *arguments])

    def affected(self, *arguments: str, base: str = "HEAD~1", purpose: str = "test") -> Mapping[str, Any]:
        """Return what is affected since a commit."""
        result = self.call("--base", base, "--for", purpose, "--format", "json", *arguments)
        assert result.exit_code == 0, result.output
        answer: Mapping[str, Any] = json.loads(result.stdout)
        return answer

    def tested(self, *arguments: str, base: str = "HEAD~1") -> list[str]:
        """Return the members to test since a commit."""
        members: list[str] = self.affected(*arguments, base=base)["members"]
        return members

    def deployed(self, *arguments: str, base: str = "HEAD~1") -> list[str]:
        """Return the members since a commit whose deployed code changed."""
        members: list[str] = self.affected(*arguments, base=base, purpose="deploy")["members"]
        return members


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    for name, needs in WHEELS.items():
        for version in ("1.0", "2.0"):
            _write_wheel(folder, name, version, needs)
    return folder


@pytest.fixture
def make_wheel() -> Callable[..., None]:
    """Return what writes a wheel of an empty module: a folder, a name, a version, and what it needs."""
    return _write_wheel


@pytest.fixture
def no_members(tmp_path: Path, wheels: Path) -> Monorepo:
    """Make a workspace to which members are to be added."""
    return Monorepo(tmp_path.resolve(), wheels)


@pytest.fixture
def monorepo(no_members: Monorepo) -> Monorepo:
    """Make the workspace of most tests, committed.

    `shop` and `plain` depend on `base`, `shop` on its extra `store` too; `alone` depends on nothing of the workspace.
    """
    repo = no_members
    repo.member("packages/base", ["lib"], extras={"store": ["store"]}, dev=["maker"])
    repo.member("projects/shop", ["base[store]"], owns=["models/**"])
    repo.member("projects/plain", ["base"])
    repo.member("packages/alone")
    repo.write("packages/base/tests/test_base.py")
    repo.write("packages/base/README.md", "# base\n")
    repo.write("docs/guide.md", "# guide\n")
    repo.write("Makefile", "all:\n")
    repo.write("models/orders.sql", "select 1\n")
    repo.write("tests/test_all.py")
    entries = "".join(
        f"  - python_module: {{module_name: {name}.definitions, location_name: {name}}}\n" for name in ("shop", "plain")
    )
    repo.write("workspace.yaml", f"load_from:\n{entries}")
    repo.rules = '\n[tool.headrace]\nowns = ["tests/**"]\n' + RULES
    repo.lock()
    repo.commit()
    return repo


def _write_wheel(folder: Path, name: str, version: str, needs: Sequence[str] = ()) -> None:
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    required = "".join(f"Requires-Dist: {need}\n" for need in needs)
    required += "".join(f"Provides-Extra: {need.split(chr(39))[1]}\n" for need in needs if "extra ==" in need)
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{module}.py", f'"""{version}"""\n')
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{required}")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
