"""Installs a release: a copy of its files with a virtual environment of its own, in which its definitions load."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from headrace.contracts.contract import Contract, parse_contract
from headrace.installation.installation import Installation, remove_tree
from headrace.locations.describe import LOCATION_SCRIPT
from headrace.releases import start
from headrace.releases.release import MANIFEST, Release
from headrace.releases.start import environment_of
from headrace.tools.python_traces import error_of

_START = Path(start.__file__)
_LAUNCH = '#!/bin/sh\nhere=$(cd "$(dirname "$0")" && pwd -P)\nexec "$here/venv/bin/python" -I "$here/start.py" "$@"\n'


def installed(installation: Installation, name: str) -> Path | None:
    """Return the folder of a release that is installed whole: `release.json` is copied last of all."""
    folder = installation.folder / "releases" / name
    return folder if (folder / MANIFEST).is_file() else None


def install(installation: Installation, release: Release, wheels: Path | None) -> Path:
    """Copy a release and make its environment, unless that was done before; return the folder.

    Args:
        installation: where to.
        release: a verified release.
        wheels: a folder of wheels of all requirements, to install without a network; None takes uv's index.

    Raises:
        click.ClickException: uv fails; nothing is left then.
        OSError: the copy fails, as on a full disk; nothing is left then.
    """
    folder = installation.folder / "releases" / release.name
    if (found := installed(installation, release.name)) is not None:
        if json.loads((found / MANIFEST).read_text(encoding="utf-8"))["digest"] != release.info.digest:
            raise click.ClickException(
                f"{release.folder}: another release is installed as {release.name}: build it again"
            )
        return found
    remove_tree(folder)
    try:
        shutil.copytree(release.folder, folder, ignore=shutil.ignore_patterns(MANIFEST))
        _make_environment(folder, Release(folder, release.info), wheels)
        (folder / "start.py").write_text(_START.read_text(encoding="utf-8"), encoding="utf-8")
        (folder / "start").write_text(_LAUNCH, encoding="utf-8")
        (folder / "start").chmod(0o755)
    except BaseException:
        remove_tree(folder)
        raise
    return folder


def finish(installation: Installation, release: Release) -> None:
    """Mark an installed release as whole, once it is known to load."""
    target = installation.folder / "releases" / release.name / MANIFEST
    installation.give(target.parent)
    fresh = target.with_name(f".{MANIFEST}")
    shutil.copyfile(release.folder / MANIFEST, fresh)
    installation.give(fresh)
    fresh.replace(target)


def loaded_contract(installation: Installation, folder: Path, release: Release) -> Contract:
    """Load the definitions in the release's environment, with the installation's variables; return their contract.

    Raises:
        click.ClickException: they do not load, or give another contract than the one that was built.
    """
    if release.contract is None:
        raise click.ClickException(f"{release.name}: it has no contract.json: build it again")
    built = parse_contract(release.contract.read_text(encoding="utf-8"), str(release.contract))
    with TemporaryDirectory(prefix="headrace-contract-") as made:
        out = Path(made, "contract.json")
        done = _run(
            installation,
            folder,
            *(str(LOCATION_SCRIPT), "--location", release.location, "--module", release.info.module or ""),
            *("--working-directory", str(folder), "--root", str(folder), "--out", str(out)),
        )
        if done.returncode:
            reason = error_of(done.stdout).removeprefix("Error: ")
            raise click.ClickException(f"{release.location} does not load: {reason}")
        contract = parse_contract(out.read_text(encoding="utf-8"), release.location)
    if _without_files(contract) != _without_files(built):
        difference = _first_difference(built, contract)
        raise click.ClickException(
            f"{release.location} loads with another contract than it was built with{difference}: "
            f"put the values of the build into {installation.folder / 'env'}, or build it with these"
        )
    return built


def create_instance_tables(installation: Installation, folder: Path) -> None:
    """Make the tables of an empty instance: webserver and daemon, which start together, would both try.

    Args:
        installation: the installation.
        folder: of an installed release of the platform.

    Raises:
        click.ClickException: the storage of `dagster.yaml` cannot be reached.
    """
    done = _run(installation, folder, "-m", "headrace.storage")
    if done.returncode:
        raise click.ClickException(
            f"the storage of {installation.folder}/dagster/dagster.yaml: {error_of(done.stdout)}"
        )


def _run(installation: Installation, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the interpreter of an installed release in the environment that its processes have."""
    try:
        environment = environment_of(installation.folder, folder)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    seconds = installation.settings.start_seconds
    try:
        return subprocess.run(  # noqa: S603 - the release's interpreter
            [str(folder / "venv" / "bin" / "python"), *arguments],
            check=False,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise click.ClickException(
            f"{folder.name} does not load within {seconds} s, `start_seconds` of installation.toml"
        ) from None


def _make_environment(folder: Path, release: Release, wheels: Path | None) -> None:
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        raise click.ClickException("uv is not found: install it on this host, or put it on PATH")
    offline = ["--offline", "--no-index", "--find-links", str(wheels.resolve())] if wheels else []
    python = str(folder / "venv" / "bin" / "python")
    install_to = [uv, "pip", "install", "--quiet", "--python", python]
    for command in (
        [
            uv,
            "venv",
            "--quiet",
            "--no-config",
            "--no-python-downloads",
            "--python",
            release.info.python,
            str(folder / "venv"),
        ],
        [*install_to, "--require-hashes", *offline, "--requirement", str(release.requirements.absolute())],
        # Their hashes are those of `release.json`.
        [*install_to, "--offline", "--no-index", "--no-deps", *(str(wheel.absolute()) for wheel in release.wheels)],
    ):
        environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONHOME")}
        environment.setdefault("UV_COMPILE_BYTECODE", "1")
        # In no workspace: uv takes the settings of a project above its folder, whose pins have no hashes.
        outside = folder.anchor
        done = subprocess.run(command, check=False, cwd=outside, env=environment, capture_output=True, text=True)  # noqa: S603
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split()) or f"exit code {done.returncode}"
            raise click.ClickException(f"{release.name}: `uv {' '.join(command[1:3])}`: {said}")


def _without_files(contract: Contract) -> Contract:
    return replace(
        contract,
        produces=tuple(replace(produced, file="") for produced in contract.produces),
        consumes=tuple(replace(consumed, file="") for consumed in contract.consumes),
    )


def _first_difference(built: Contract, loaded: Contract) -> str:
    one, other = _without_files(built), _without_files(loaded)
    for kind in ("produces", "consumes"):
        before = {item.key: item for item in getattr(one, kind)}
        after = {item.key: item for item in getattr(other, kind)}
        for key in sorted(before.keys() | after.keys()):
            if before.get(key) != after.get(key):
                return f", the first in {key}"
    return ""
