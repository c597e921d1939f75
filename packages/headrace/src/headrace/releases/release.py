"""A release: a folder with all that one code location is deployed from, and `release.json`, which says what is in it.

    analytics-20260131T091500Z-1f3a5b7c9d0e/
        release.json         who made what of which revision, and the SHA-256 of every other file
        requirements.txt     every package of the lock that the member is installed with, with hashes
        wheels/*.whl         the member and its workspace dependencies
        contract.json        what the location promises and expects; a location has one, the platform none
        dbt/                 its dbt project with the manifest, where it has one

Its name sorts by the time of the commit. It is read only: what runs of `dbt/` writes, and belongs to a copy.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace.cli.user_errors import UserError

PLATFORM = "platform"
"""The name of the release of webserver and daemon, which no code location may have."""

FORMAT: Final = 1
MANIFEST = "release.json"
REQUIREMENTS = "requirements.txt"
SBOM = "sbom.cdx.json"
WHEELS = "wheels"
CONTRACT = "contract.json"
DBT_PROJECT = "dbt"

_LOCATION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_NAME = re.compile(rf"{_LOCATION.pattern}-\d{{8}}T\d{{6}}Z-[0-9a-f]{{12}}")
_SUFFIX = len("-20260131T091500Z-1f3a5b7c9d0e")
_CHUNK = 1 << 20

_Name = Annotated[str, Field(pattern=rf"^{_NAME.pattern}$")]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ReleaseInfo(BaseModel):
    """What `release.json` says.

    Attributes:
        format: of the folder; this reads 1.
        name: of the release, and of its folder when it is built.
        location: the code location; `platform` for the webserver and the daemon.
        kind: whether it is a location.
        member: the workspace member whose wheel it is.
        module: what the code server loads; the platform has none.
        revision: the commit.
        version: the member's.
        python: the Python that it is built for, as `3.11`.
        packages: the version of everything that its wheels and requirements install here.
        variables: the environment variables that its dbt project reads, with the values that the manifest fits; null
            for one that is not set. Secrets are not among them.
        files: the SHA-256 of every other file, by its path in the folder.
        digest: the SHA-256 of all of this but `built_at`: equal for two builds of one revision.
        built_at: when it was built, UTC.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    format: Literal[1]
    name: _Name
    location: Annotated[str, Field(pattern=rf"^{_LOCATION.pattern}$")]
    kind: Literal["location", "platform"]
    member: str
    module: str | None
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    version: str
    python: Annotated[str, Field(pattern=r"^\d+\.\d+$")]
    packages: Mapping[str, str]
    variables: Mapping[str, str | None]
    files: Mapping[str, _Sha256]
    digest: _Sha256
    built_at: str


@dataclass(frozen=True)
class Release:
    """A release in a folder.

    Args:
        folder: the folder.
        info: what its `release.json` says.
    """

    folder: Path
    info: ReleaseInfo

    @classmethod
    def read(cls, folder: Path) -> "Release":
        """Return the release of a folder; its files are looked at by `verify`.

        Raises:
            UserError: there is none, or `release.json` is broken.
        """
        file = folder / MANIFEST
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            said = content.get("format") if isinstance(content, dict) else None
            if isinstance(said, int) and said != FORMAT:
                raise UserError(f"{file}: a release of format {said}, and this headrace reads {FORMAT}: build it again")
            info = ReleaseInfo.model_validate_json(json.dumps(content))
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                f"{folder}: there is no {MANIFEST}: give a folder that `headrace release build` made"
            ) from None
        except OSError as error:
            raise UserError(f"{file}: {error.strerror}: make it readable") from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise UserError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}: {_AGAIN}") from None
        except ValueError as error:
            raise UserError(f"{file}: {error}: {_AGAIN}") from None
        if info.name[:-_SUFFIX] != info.location or (info.kind == "platform") != (info.location == PLATFORM):
            raise UserError(f"{file}: {info.name} is not a name for a {info.kind} {info.location}: {_AGAIN}")
        return cls(folder, info)

    @property
    def name(self) -> str:
        """Return its name, which sorts by the time of its commit and is safe as the name of a folder."""
        return self.info.name

    @property
    def location(self) -> str:
        """Return its code location; `platform` for the webserver and the daemon."""
        return self.info.location

    @property
    def requirements(self) -> Path:
        """Return the file of the packages that it is installed with besides its wheels, each with its hashes."""
        return self.folder / REQUIREMENTS

    @cached_property
    def wheels(self) -> tuple[Path, ...]:
        """Return the wheels of the member and its workspace dependencies, to be installed without dependencies."""
        return tuple(self.folder / path for path in sorted(self.info.files) if path.startswith(f"{WHEELS}/"))

    @property
    def contract(self) -> Path | None:
        """Return the file of its contract; the platform has none."""
        return self._path(CONTRACT)

    @property
    def dbt_project(self) -> Path | None:
        """Return the folder of its dbt project, to be copied before it runs; None where it has none."""
        return self.folder / DBT_PROJECT if self._path(f"{DBT_PROJECT}/dbt_project.yml") else None

    def verify(self) -> None:
        """Check that the folder has exactly the files that were built, each with its content.

        Raises:
            UserError: something is changed, missing or added; the message names the first of them.
        """
        for name in self.info.files:
            if not _is_inside(name):
                raise UserError(f"{self.folder / MANIFEST}: files: {name!r} is not in the folder: {_AGAIN}")
        if digest_of(self.info) != self.info.digest:
            raise UserError(f"{self.folder / MANIFEST}: it was changed after the build: {_AGAIN}")
        there = set()
        for path in entries_of(self.folder):
            if path.is_symlink() or not path.is_file():
                raise UserError(f"{path}: not a plain file, and a release has no others: {_AGAIN}")
            there.add(path.relative_to(self.folder).as_posix())
        expected = self.info.files.keys() | {MANIFEST}
        for missing in sorted(expected - there):
            raise UserError(f"{self.folder / missing}: it is missing: {_AGAIN}")
        for extra in sorted(there - expected):
            raise UserError(f"{self.folder / extra}: it is not part of the build: {_AGAIN}")
        for name, expected_hash in sorted(self.info.files.items()):
            if file_hash(self.folder / name) != expected_hash:
                raise UserError(f"{self.folder / name}: it was changed after the build: {_AGAIN}")

    def _path(self, name: str) -> Path | None:
        return self.folder / name if name in self.info.files else None


def digest_of(info: ReleaseInfo) -> str:
    """Return the digest of what a release is, whenever it was built."""
    content: dict[str, Any] = info.model_dump(exclude={"digest", "built_at"})
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        UserError: it cannot be read.
    """
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                found.update(chunk)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: make it readable") from None
    return found.hexdigest()


def entries_of(folder: Path) -> Iterator[Path]:
    """Yield everything below a folder that is no folder itself; a link is never followed."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            yield from entries_of(entry)
        else:
            yield entry


_AGAIN = "build it again with `headrace release build`"


def _is_inside(path: str) -> bool:
    parts = path.split("/")
    return bool(path) and "\\" not in path and "\0" not in path and not any(part in ("", ".", "..") for part in parts)
