"""An installed release: a copy of its files with a virtual environment of its own, in which its definitions load."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from headrace.contracts.contract import Contract, parse_contract
from headrace.installation.installation import Installation, remove_tree
from headrace.locations.describe import LOCATION_SCRIPT
from headrace.releases import start
from headrace.releases.release import MANIFEST, Release
from headrace.releases.start import CELERY_CONFIG, WARM_LOCATION, environment_of
from headrace.tools.python_traces import error_of

_START = Path(start.__file__)
_FORKING = Path(str(files("headrace.deployed") / WARM_LOCATION))
_CELERY = _FORKING.with_name(CELERY_CONFIG)
_LAUNCH = '#!/bin/sh\nhere=$(cd "$(dirname "$0")" && pwd -P)\nexec "$here/venv/bin/python" -I "$here/start.py" "$@"\n'


def is_installed(installation: Installation, name: str) -> bool:
    """Return whether a release is installed whole: `release.json` is copied last of all."""
    return (installation.folder / "releases" / name / MANIFEST).is_file()


def remove_release(installation: Installation, name: str) -> None:
    """Remove an installed release; from the first moment it is not whole any more."""
    folder = installation.folder / "releases" / name
    (folder / MANIFEST).unlink(missing_ok=True)
    remove_tree(folder)


@dataclass(frozen=True)
class InstalledRelease:
    """A release as it is on this host: a copy with an environment, whole or about to be.

    Args:
        installation: where it is.
        release: what was built: the release of the folder that is deployed, or that of the copy.
    """

    installation: Installation
    release: Release

    @classmethod
    def find(cls, installation: Installation, name: str) -> "InstalledRelease | None":
        """Return a release that is installed whole; None where it is not.

        Raises:
            UserError: its `release.json` is broken.
        """
        folder = installation.folder / "releases" / name
        return cls(installation, Release.read(folder)) if is_installed(installation, name) else None

    @property
    def name(self) -> str:
        """Return the name of the release."""
        return self.release.name

    @property
    def folder(self) -> Path:
        """Return the folder of the copy."""
        return self.installation.folder / "releases" / self.name

    @property
    def is_whole(self) -> bool:
        """Return whether its installation came to its end."""
        return is_installed(self.installation, self.name)

    @property
    def is_platform(self) -> bool:
        """Return whether it is webserver and daemon, and no code location."""
        return self.release.info.kind == "platform"

    def install(self, wheels: Path | None) -> None:
        """Copy the release and make its environment, unless that was done before.

        Args:
            wheels: a folder of wheels of all requirements, to install without a network; None takes uv's index.

        Raises:
            click.ClickException: uv fails; nothing is left then.
            OSError: the copy fails, as on a full disk; nothing is left then.
        """
        release, folder = self.release, self.folder
        if self.is_whole:
            if json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["digest"] != release.info.digest:
                raise click.ClickException(
                    f"{release.folder}: another release is installed as {release.name}: build it again"
                )
            return
        remove_tree(folder)
        try:
            shutil.copytree(release.folder, folder, ignore=shutil.ignore_patterns(MANIFEST))
            _make_environment(folder, Release(folder, release.info), wheels)
            (folder / "start.py").write_text(_START.read_text(encoding="utf-8"), encoding="utf-8")
            if not self.is_platform:
                for file in (_FORKING, _CELERY):
                    (folder / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
            (folder / "start").write_text(_LAUNCH, encoding="utf-8")
            (folder / "start").chmod(0o755)
        except BaseException:
            remove_tree(folder)
            raise

    def finish(self) -> None:
        """Mark it as whole, once it is known to load."""
        if self.is_whole:
            return
        self.installation.give(self.folder)
        fresh = self.folder / f".{MANIFEST}"
        shutil.copyfile(self.release.folder / MANIFEST, fresh)
        self.installation.give(fresh)
        fresh.replace(self.folder / MANIFEST)

    def environment(self) -> dict[str, str]:
        """Return the environment that its processes have.

        Raises:
            click.ClickException: the `env` of the installation is broken.
        """
        try:
            return environment_of(self.installation.folder, self.folder)
        except ValueError as error:
            raise click.ClickException(str(error)) from None

    def contract(self) -> Contract:
        """Return the contract that a location was built with.

        Raises:
            click.ClickException: it has none.
        """
        file = self.release.contract
        if file is None:
            raise click.ClickException(f"{self.name}: it has no contract.json: build it again")
        return parse_contract(file.read_text(encoding="utf-8"), str(file))

    def check_loads(self) -> None:
        """Load the definitions in its environment, with the installation's variables.

        Raises:
            click.ClickException: they do not load, or give another contract than the one that was built.
        """
        location, built = self.release.location, self.contract()
        with TemporaryDirectory(prefix="headrace-contract-") as made:
            out = Path(made, "contract.json")
            done = self._run(
                *(str(LOCATION_SCRIPT), "--location", location, "--module-name", self.release.info.module or ""),
                *("--working-directory", str(self.folder), "--root", str(self.folder), "--out", str(out)),
            )
            if done.returncode:
                reason = error_of(done.stdout).removeprefix("Error: ")
                raise click.ClickException(f"{location} does not load: {reason}")
            contract = parse_contract(out.read_text(encoding="utf-8"), location)
        if _without_files(contract) != _without_files(built):
            difference = _first_difference(built, contract)
            raise click.ClickException(
                f"{location} loads with another contract than it was built with{difference}: "
                f"put the values of the build into {self.installation.folder / 'env'}, or build it with these"
            )

    def create_instance_tables(self) -> None:
        """Make the tables of an empty instance: webserver and daemon, which start together, would both try.

        It is asked of a release of the platform, of whatever version: `headrace.storage` is its address in each.

        Raises:
            click.ClickException: the storage of `dagster.yaml` cannot be reached.
        """
        done = self._run("-m", "headrace.storage")
        if done.returncode:
            raise click.ClickException(
                f"the storage of {self.installation.folder}/dagster/dagster.yaml: {error_of(done.stdout)}"
            )

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run its interpreter in the environment that its processes have."""
        seconds = self.installation.settings.start_seconds
        try:
            return subprocess.run(  # noqa: S603 - the release's interpreter
                [str(self.folder / "venv" / "bin" / "python"), *arguments],
                check=False,
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            raise click.ClickException(
                f"{self.name} does not load within {seconds} s, `start_seconds` of installation.toml"
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
