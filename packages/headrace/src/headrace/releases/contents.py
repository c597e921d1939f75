"""Makes the files of a release from a checked-out revision, and puts the folder in its place at once."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from headrace.cli.user_errors import UserError
from headrace.contracts.contract import parse_contract
from headrace.releases.own_environment import OwnEnvironment
from headrace.releases.release import (
    CONTRACT,
    DBT_PROJECT,
    FORMAT,
    MANIFEST,
    REQUIREMENTS,
    SBOM,
    WHEELS,
    Release,
    ReleaseInfo,
    digest_of,
    entries_of,
    file_hash,
)
from headrace.releases.subject import Subject
from headrace.releases.variables import is_secret, refuse_secrets
from headrace.tools.git import Repository
from headrace.tools.uv import Uv


@dataclass(frozen=True)
class Build:
    """A build of one release.

    Args:
        repository: the repository.
        commit: the revision.
        subject: what is released.
        variables: the environment variables of the installation.
        out: the folder of releases.
        progress: is told each step, in a few words.
    """

    repository: Repository
    commit: str
    subject: Subject
    variables: Mapping[str, str]
    out: Path
    progress: Callable[[str], None]

    def run(self, *, force: bool) -> tuple[Release, bool]:
        """Make the release, and return it, and whether it is new: an equal one that is there is kept.

        Args:
            force: replace another one of the same name.

        Raises:
            UserError: another one of the same name is there.
            click.ClickException: it cannot be built.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.out, prefix=".building-") as temporary:
            work = Path(temporary).resolve()
            made = self._make(work / "release", work)
            there = self.out / made.name
            if there.exists():
                if _is_equal(there, made):
                    return Release.read(there), False
                if not force:
                    raise UserError(
                        f"{there}: another build of this revision, with other variables or tools, or changed since: "
                        "remove it, or add --force"
                    )
                there.rename(work / "replaced")
            made.folder.rename(there)
        return Release.read(there), True

    def _make(self, folder: Path, work: Path) -> Release:
        committed = self.repository.committed_at(self.commit)
        # Builders write these into what they make: https://reproducible-builds.org/specs/source-date-epoch
        uv = Uv.find({"SOURCE_DATE_EPOCH": str(int(committed.timestamp())), "PYTHONHASHSEED": "0"})
        environment = OwnEnvironment(work, self.variables, uv)
        folder.mkdir()
        names: list[str] = []
        with self.repository.worktree(self.commit) as tree:
            self._install(folder, tree, environment)
            dbt = folder / DBT_PROJECT if self.subject.dbt_project is not None else None
            if dbt is not None:
                self.progress(f"parse the dbt project {self.subject.dbt_project}")
                names = list(environment.package_dbt(tree / str(self.subject.dbt_project), dbt))
            if self.subject.module:
                self.progress("load the definitions")
                text = environment.contract(self.subject, dbt, tree)
                parse_contract(text, self.subject.location)
                (folder / CONTRACT).write_text(text, encoding="utf-8")
        refuse_secrets(folder, self.variables)
        told = {name: self.variables.get(name) for name in names if not is_secret(name, self.variables.get(name) or "")}
        info = self._described(folder, environment.packages(), told, committed)
        (folder / MANIFEST).write_text(info.model_dump_json(indent=2) + "\n", encoding="utf-8")
        _readable(folder)
        return Release(folder, info)

    def _install(self, folder: Path, tree: Path, environment: OwnEnvironment) -> None:
        """Write requirements and wheels, and install both; the wheels are built while the packages are installed."""
        uv, member = environment.uv, self.subject.member
        plain = ("--no-header", "--no-annotate", "--no-emit-workspace", "--no-dev", "--all-extras")
        exported = uv.run("export", "--frozen", "--quiet", *plain, "--package", member, cwd=tree, what=member)
        requirements = folder / REQUIREMENTS
        requirements.write_text(exported, encoding="utf-8")
        materials = ("--format", "cyclonedx1.5", "--preview-features", "sbom-export", "--no-dev", "--all-extras")
        listed = uv.run("export", "--frozen", "--quiet", *materials, "--package", member, cwd=tree, what=member)
        (folder / SBOM).write_text(_same_each_time(listed), encoding="utf-8")
        self.progress(f"build {len(self.subject.folders)} wheels, and install them with the locked packages")
        with ThreadPoolExecutor(1) as pool:
            installing = pool.submit(environment.install, requirements)
            for name in sorted(self.subject.folders):
                out = ("--out-dir", str(folder / WHEELS), "--no-create-gitignore")
                uv.run("build", "--quiet", "--wheel", "--package", name, *out, cwd=tree, what=name)
            installing.result()
        environment.add(sorted((folder / WHEELS).iterdir()))

    def _described(
        self, folder: Path, packages: Mapping[str, str], variables: Mapping[str, str | None], committed: datetime
    ) -> ReleaseInfo:
        info = ReleaseInfo(
            format=FORMAT,
            name=f"{self.subject.location}-{committed:%Y%m%dT%H%M%SZ}-{self.commit[:12]}",
            location=self.subject.location,
            kind=self.subject.kind,
            member=self.subject.member,
            module=self.subject.module,
            revision=self.commit,
            version=packages[self.subject.member],
            python=f"{sys.version_info.major}.{sys.version_info.minor}",
            packages=packages,
            variables=variables,
            files={path.relative_to(folder).as_posix(): file_hash(path) for path in entries_of(folder)},
            digest=hashlib.sha256().hexdigest(),
            built_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        return info.model_copy(update={"digest": digest_of(info)})


def _same_each_time(sbom: str) -> str:
    """Return a CycloneDX list without what says when it was made, and by which call; both may be left out.

    Source: https://cyclonedx.org/docs/1.5/json/.
    """
    listed: dict[str, Any] = json.loads(sbom)
    listed.pop("serialNumber", None)
    listed.get("metadata", {}).pop("timestamp", None)
    return json.dumps(listed, indent=2) + "\n"


def _is_equal(there: Path, made: Release) -> bool:
    try:
        release = Release.read(there)
        release.verify()
    except UserError:
        return False
    return release.info.digest == made.info.digest


def _readable(folder: Path) -> None:
    """Give files and folders the modes that they have whatever the umask is: another user deploys them."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def download_wheels(release: Release, folder: Path, uv: Uv) -> None:
    """Download what a release's requirements name, each checked by its hash, for a host without network.

    Raises:
        click.ClickException: pip fails, or a package has no wheel for this platform.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Absolute: pip runs in it.
    with TemporaryDirectory(dir=folder.resolve(), prefix=".downloading-") as temporary:
        asked = ("--require-hashes", "--no-deps", "--only-binary", ":all:", "--quiet", "--disable-pip-version-check")
        uv.run(
            *("tool", "run", "--python", sys.executable, "pip", "download", *asked),
            *("--requirement", str(release.requirements.resolve()), "--dest", temporary),
            cwd=Path(temporary),
            what="wheelhouse",
        )
        wheels = [*Path(temporary).glob("*.whl")]
        if not wheels:
            raise click.ClickException(f"{release.requirements}: pip downloaded nothing into {folder}")
        for wheel in wheels:
            shutil.move(wheel, folder / wheel.name)
