"""A dbt project and its manifest, built once for a content hash of what dbt reads, under a lock, atomically."""

from __future__ import annotations

import os
import shutil
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from dagster_dbt import DbtProject
from filelock import FileLock

from dagster_dbt_common.errors import DbtConfigError, StaleManifestError
from dagster_dbt_common.project.fingerprint import (
    MACROS_DIR,
    MACROS_VARIABLE,
    NOT_READ_BY_DBT,
    Fingerprint,
    is_connection,
    secrets_of,
)
from dagster_dbt_common.project.packaged_manifest import normalize
from dagster_dbt_common.project.parsing import run_dbt

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

_STATE = Path("target") / "dagster"
_PACKAGED = "packaged.json"
_KEPT_MANIFESTS = 4
_BUILDING = ".building-"


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
        profile: a profile other than the project's; that of `DBT_PROFILE` by default.
        target: a target other than the profile's default; that of `DBT_TARGET` by default.

    Raises:
        DbtConfigError: there is no dbt project, or dbt cannot parse it; the message is dbt's.
        StaleManifestError: no manifest fits, and the project is packaged or its folder cannot be written.
    """
    root = Path(project_dir).resolve()
    if not (root / "dbt_project.yml").is_file():
        raise DbtConfigError(f"{root}: there is no dbt_project.yml: give the folder of a dbt project")
    profiles = Path(profiles_dir).resolve() if profiles_dir else root
    profile, target = _chosen(profile, target)
    choice = _flags(profile, target)
    fingerprint = Fingerprint.of(root, profiles, choice)
    state = _STATE / fingerprint.hash
    if not (root / state / "manifest.json").is_file():
        packaged = packaged_fingerprint(root)
        if packaged:
            raise StaleManifestError(
                f"{root}: the packaged manifest does not fit: {fingerprint.difference(packaged)}: package the project "
                f"again (`dagster-dbt-common package PROJECT {root}`) with what it runs with"
            )
        _build_once(root, state, ["--profiles-dir", str(profiles), *choice], fingerprint, dbt_environment())
    return DbtProject(root, target_path=state, profiles_dir=profiles, profile=profile, target=target)


def package_project(
    project_dir: Path | str, destination: Path | str, *, profile: str | None = None, target: str | None = None
) -> DbtProject:
    """Copy a dbt project with its manifest, for a location that never parses.

    The manifest fits the environment variables that the project reads as they are now: they belong to the package.
    Secrets do not: dbt parses with something in their place, so that neither are they in it nor need they be known.
    Where `SOURCE_DATE_EPOCH` is set, the same project gives the same bytes.

    Args:
        project_dir: the folder of `dbt_project.yml`.
        destination: the folder of the copy; what is there is replaced.
        profile: as for `prepared_project`.
        target: as for `prepared_project`.

    Raises:
        DbtConfigError: there is no dbt project, dbt cannot parse it, or its manifest would have a secret.
    """
    source, copy = Path(project_dir).resolve(), Path(destination).resolve()
    if not (source / "dbt_project.yml").is_file():
        raise DbtConfigError(f"{source}: there is no dbt_project.yml: give the folder of a dbt project")
    copy.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=copy.parent, prefix=f".{copy.name}-") as building:
        fresh = Path(building, copy.name)
        shutil.copytree(source, fresh, ignore=shutil.ignore_patterns(*NOT_READ_BY_DBT))
        _parse_for_package(fresh, _flags(*_chosen(profile, target)))
        if copy.exists():
            copy.rename(Path(building, "replaced"))
        fresh.rename(copy)
    return prepared_project(copy, profile=profile, target=target)


def _parse_for_package(project: Path, choice: list[str]) -> None:
    secrets = secrets_of(project)
    for variable, file in secrets.items():
        if not is_connection(file):
            raise DbtConfigError(
                f"{file}: env_var('{variable}'): a package would contain its value: read secrets in profiles.yml only"
            )
    # The order of a set is then the same in every parse.
    environment = {**dbt_environment(), **dict.fromkeys(secrets, "secret"), "PYTHONHASHSEED": "0"}
    fingerprint = Fingerprint.of(project, project, choice)
    state = project / _STATE / fingerprint.hash
    _build_once(project, state, ["--profiles-dir", str(project), *choice], fingerprint, environment)
    libraries = {Path(sysconfig.get_path("purelib")): "site-packages", MACROS_DIR.parent.parent: "site-packages"}
    normalize(state, {project: ".", **libraries})
    (state.parent / ".lock").unlink()
    (state.parent / _PACKAGED).write_text(fingerprint.to_json())


def packaged_fingerprint(project_dir: Path) -> Fingerprint | None:
    """Return what a packaged project's manifest was made from; None for a project that is not packaged."""
    marker = project_dir / _STATE / _PACKAGED
    return Fingerprint.from_json(marker.read_text()) if marker.is_file() else None


def dbt_environment() -> Mapping[str, str]:
    """Return the environment in which dbt runs: this process's, and where the package's macros are."""
    return {MACROS_VARIABLE: str(MACROS_DIR), **os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}


def _chosen(profile: str | None, target: str | None) -> tuple[str | None, str | None]:
    """Return the profile and the target, which dbt's own variables say where nobody else does.

    Source: https://docs.getdbt.com/reference/global-configs/environment-variable-configs.
    """
    return profile or os.environ.get("DBT_PROFILE") or None, target or os.environ.get("DBT_TARGET") or None


def _flags(profile: str | None, target: str | None) -> list[str]:
    return [*(["--profile", profile] if profile else []), *(["--target", target] if target else [])]


def _build_once(
    project_dir: Path, state: Path, choice: list[str], fingerprint: Fingerprint, environment: Mapping[str, str]
) -> None:
    folder = project_dir / state
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / ".lock")
        with lock:
            if (folder / "manifest.json").is_file():
                return
            for left in folder.parent.glob(f"{_BUILDING}*"):  # by a process that was killed: this one has the lock
                shutil.rmtree(left, ignore_errors=True)
            former = _newest_parse(folder.parent, fingerprint)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=_BUILDING) as building:
                _parse(project_dir, Path(building), choice, environment, former=former)
                # What readers need, without the folders and logs that dbt leaves beside them.
                kept = Path(building, "kept")
                kept.mkdir()
                if former and not Path(building, "partial_parse.msgpack").exists():
                    # What differs is nothing that dbt parses, and it writes none then.
                    shutil.copyfile(former, Path(building, "partial_parse.msgpack"))
                for name in ("manifest.json", "partial_parse.msgpack"):
                    (Path(building) / name).replace(kept / name)
                (kept / "fingerprint.json").write_text(fingerprint.to_json())
                kept.rename(folder)
            _forget_old(folder)
    except PermissionError as error:
        raise StaleManifestError(
            f"{project_dir}: its manifest does not fit the project, and {error.filename} cannot be written: "
            "make the folder writable, or package the project (`dagster-dbt-common package PROJECT DESTINATION`)"
        ) from None


def _newest_parse(manifests: Path, fingerprint: Fingerprint) -> Path | None:
    """Return what dbt knows of the newest state of the project from which it may parse what has changed since."""
    files = sorted(manifests.glob("*/partial_parse.msgpack"), key=lambda path: path.stat().st_mtime, reverse=True)
    for file in files:
        about = file.with_name("fingerprint.json")
        if about.is_file() and fingerprint.is_parsed_from(Fingerprint.from_json(about.read_text())):
            return file
    return None


def _parse(
    project_dir: Path, target_path: Path, choice: list[str], environment: Mapping[str, str], *, former: Path | None
) -> None:
    flags = ["--project-dir", str(project_dir), *choice]
    if former:
        flags += ["--partial-parse-file-path", str(former)]
    output = ["--target-path", str(target_path), "--log-path", str(target_path)]
    has_packages = any((project_dir / name).is_file() for name in ("packages.yml", "dependencies.yml"))
    for command in (["deps"], ["parse"]) if has_packages and not _packages_installed(project_dir) else (["parse"],):
        said = ["--quiet", "--no-use-colors", *command, *flags, *output]
        done = run_dbt(said, cwd=project_dir, environment=environment)
        if done.returncode:
            raise DbtConfigError(f"{project_dir}: dbt {command[0]} failed: {_reason(done)}")


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """Return what dbt said, on one line, without the time in front of it."""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    said = [line for line in lines if line and not line.endswith("Encountered an error:")]
    return " ".join(said) or f"exit code {done.returncode}"


def _packages_installed(project_dir: Path) -> bool:
    project: dict[str, str] = yaml.safe_load((project_dir / "dbt_project.yml").read_text()) or {}
    return (project_dir / project.get("packages-install-path", "dbt_packages")).is_dir()


def _forget_old(newest: Path) -> None:
    manifests = sorted(newest.parent.glob("*/manifest.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for manifest in manifests[_KEPT_MANIFESTS:]:
        shutil.rmtree(manifest.parent, ignore_errors=True)
