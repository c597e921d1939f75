"""Each member alone: in an environment with nothing else installed its modules import and its tests are collected.

That they pass there is seen by `make test-members`, nightly, and by each pull request for the members it touches.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.uv_lock import Lock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[1]
UV = shutil.which("uv", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
MEMBERS = {name: folder for name, folder in Lock((ROOT / "uv.lock").read_text()).members.items() if folder != "."}

IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


@pytest.mark.parametrize("member", sorted(MEMBERS))
def test_a_member_has_all_that_it_imports(member: str, tmp_path: Path) -> None:
    assert UV, "uv is not installed"
    (package,) = (path for path in (ROOT / MEMBERS[member] / "src").iterdir() if (path / "__init__.py").is_file())
    hidden = ("HEADRACE_", "DAGSTER", "VIRTUAL_ENV", "PYTHONPATH", "PYTEST")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    environment |= {"UV_PROJECT_ENVIRONMENT": str(tmp_path / "environment"), "DAGSTER_HOME": ""}
    alone = [UV, "run", "--quiet", "--locked", "--exact", "--package", member, "--python", sys.executable]
    for command in (
        ["python", "-c", IMPORT_ALL, package.name],
        ["pytest", "--collect-only", "--quiet", MEMBERS[member]],
    ):
        done = subprocess.run(
            [*alone, *command], check=False, cwd=ROOT, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
