"""A dbt project and its manifest, built once for a content hash of what dbt reads, under a lock, atomically."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from dagster_dbt import DbtProject
from filelock import FileLock

from dagster_dbt_common.errors import DbtConfigError, StaleManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MACROS_DIR = Path(__file__).parent / "macros"
"""The macros of this package; a dbt project names the folder, or the variable that says it, in its `macro-paths`."""

MACROS_VARIABLE = "DAGSTER_DBT_COMMON_MACROS"

_STATE = Path("target") / "dagster"
_KEPT_MANIFESTS = 4
_NOT_READ_BY_DBT = {"target", "logs", ".git", ".venv", "__pycache__", ".user.yml", "node_modules"}
_ENV_VAR = re.compile(rb"""env_var\(\s*['"](\w+)['"]""")


def prepared_project(
    project_dir: Path | str,
    *,
    profiles_dir: Path | str | None = None,
    profile: str | None = None,
    target: str | None = None,
) -> DbtProject:
    """Return the dbt project with a manifest that fits it, building the manifest where there is none.

    The manifest stands in `target/dagster/<content hash>/`, so a process finds the one of its own files or builds it; a
    changed file, profile, environment variable that the project reads, or version of dbt has another hash. The folder
    is moved into place at once: no reader sees half of one. Processes that start together build it once.

    Args:
        project_dir: the folder of `dbt_project.yml`.
        profiles_dir: the folder of `profiles.yml`; the project's own by default.
        profile: a profile other than the project's.
        target: a target other than the profile's default.

    Raises:
        DbtConfigError: there is no dbt project, or dbt can not parse it; the message is dbt's.
        StaleManifestError: no manifest fits and the project's folder can not be written, as in a packaged location.
    """
    root = Path(project_dir).resolve()
    if not (root / "dbt_project.yml").is_file():
        raise DbtConfigError(f"{root}: there is no dbt_project.yml: give the folder of a dbt project")
    profiles = Path(profiles_dir).resolve() if profiles_dir else root
    choice = ["--profiles-dir", str(profiles)]
    choice += ["--profile", profile] if profile else []
    choice += ["--target", target] if target else []
    state = _STATE / content_hash(root, profiles, choice[2:])
    if not (root / state / "manifest.json").is_file():
        _build_once(root, state, choice)
    return DbtProject(root, target_path=state, profiles_dir=profiles, profile=profile, target=target)


def content_hash(project_dir: Path, profiles_dir: Path, choice: list[str]) -> str:
    """Return 16 hex digits that change with anything that dbt reads when it parses the project."""
    digest = hashlib.sha256()
    variables = {MACROS_VARIABLE.encode()}
    for name, path in sorted(_files(project_dir, profiles_dir)):
        content = path.read_bytes()
        variables.update(_ENV_VAR.findall(content))
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    for variable in sorted(variables):
        digest.update(variable + b"=" + os.environb.get(variable, b"\0") + b"\0")
    digest.update("\0".join([*choice, *_versions()]).encode())
    return digest.hexdigest()[:16]


def dbt_environment() -> Mapping[str, str]:
    """Return the environment in which dbt runs: this process's, and where the package's macros are."""
    return {MACROS_VARIABLE: str(MACROS_DIR), **os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}


def _files(project_dir: Path, profiles_dir: Path) -> Iterator[tuple[str, Path]]:
    for folder, folders, names in os.walk(project_dir):
        folders[:] = [name for name in folders if name not in _NOT_READ_BY_DBT]
        for name in names:
            if name not in _NOT_READ_BY_DBT:
                path = Path(folder, name)
                yield f"project/{path.relative_to(project_dir)}", path
    if profiles_dir != project_dir and (profiles_dir / "profiles.yml").is_file():
        yield "profiles.yml", profiles_dir / "profiles.yml"
    for path in MACROS_DIR.glob("*.sql"):
        yield f"macros/{path.name}", path


def _versions() -> Iterator[str]:
    installed = {(dist.name.lower(), dist.version) for dist in metadata.distributions() if "dbt" in dist.name.lower()}
    for name, version in sorted(installed):
        yield f"{name}=={version}"


def _build_once(project_dir: Path, state: Path, choice: list[str]) -> None:
    folder = project_dir / state
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / ".lock")
        with lock:
            if (folder / "manifest.json").is_file():
                return
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".building-") as building:
                _parse(project_dir, Path(building), choice)
                # What readers need, without the folders and logs that dbt leaves beside them.
                kept = Path(building, "kept")
                kept.mkdir()
                for name in ("manifest.json", "partial_parse.msgpack"):
                    (Path(building) / name).replace(kept / name)
                kept.rename(folder)
            _forget_old(folder)
    except PermissionError as error:
        raise StaleManifestError(
            f"{project_dir}: its manifest does not fit the project, and {error.filename} can not be written: "
            "build the release again (`headrace release build`), or make the folder writable"
        ) from None


def _parse(project_dir: Path, target_path: Path, choice: list[str]) -> None:
    flags = ["--project-dir", str(project_dir), *choice]
    output = ["--target-path", str(target_path), "--log-path", str(target_path)]
    has_packages = any((project_dir / name).is_file() for name in ("packages.yml", "dependencies.yml"))
    for command in (["deps"], ["parse"]) if has_packages and not _packages_installed(project_dir) else (["parse"],):
        done = subprocess.run(  # noqa: S603 - the command is dbt's own, with this interpreter
            [sys.executable, "-m", "dbt.cli.main", "--quiet", *command, *flags, *output],
            env=dict(dbt_environment()),
            cwd=project_dir,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            text = (done.stdout + done.stderr).strip() or f"exit code {done.returncode}"
            raise DbtConfigError(f"{project_dir}: dbt {command[0]} failed: {text}")


def _packages_installed(project_dir: Path) -> bool:
    project: dict[str, str] = yaml.safe_load((project_dir / "dbt_project.yml").read_text()) or {}
    return (project_dir / project.get("packages-install-path", "dbt_packages")).is_dir()


def _forget_old(newest: Path) -> None:
    manifests = sorted(newest.parent.glob("*/manifest.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for manifest in manifests[_KEPT_MANIFESTS:]:
        shutil.rmtree(manifest.parent, ignore_errors=True)
