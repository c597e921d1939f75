"""An installation: the folder on a host in which releases are installed, and from which its processes run.

    DIR/installation.toml    what an operator decides
    DIR/env                  the environment of all processes, secrets too
    DIR/dagster/dagster.yaml the Dagster instance
    DIR/workspace.yaml       the code servers, for webserver and daemon; generated
    DIR/releases/<release>/  a copy of the release with its own virtual environment
    DIR/servers/<server>/    what runs of a release: `release`, a link to it, and the code server's socket
    DIR/current/<location>   a link to the server that serves it; renaming this link is the switch
    DIR/history/<location>.jsonl
    DIR/data/                lake and warehouse, where `env` does not say another place
    DIR/logs/, DIR/locks/, DIR/run/

Webserver and daemon know a code server by `DIR/current/<location>/sock`. Two servers that share a port answer in turns
as long as the old one drains, half of the calls each, and the draining one refuses runs; a renamed link has no between.
"""

import os
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import click
import yaml
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace.cli.user_errors import UserError
from headrace.releases.release import PLATFORM
from headrace.releases.start import SOCKET

_FILES = Path(__file__).with_name("process")
_LONGEST_SOCKET = 107  # bytes of a path in `sockaddr_un` on Linux


_NO_UNITS = (
    "a unit for each server is no longer kept: disable the units headrace-*@, take the line out, and enable "
    "headrace-supervisor.service, which starts what is deployed"
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Webserver(_Strict):
    """Where the webserver listens."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(gt=0, lt=65536)] = 3000


class Settings(_Strict):
    """What `installation.toml` says.

    Attributes:
        processes: who keeps the processes; there is one who does, and files that name it are older than this.
        drain_seconds: how long a replaced code server may wait for its runs; then it is killed, and they with it.
        start_seconds: how long a process may take until it serves.
        keep: how many releases of a location `prune` keeps.
        webserver: where the webserver listens.
    """

    processes: Literal["supervisor"] = "supervisor"
    drain_seconds: Annotated[int, Field(gt=0)] = 14400
    start_seconds: Annotated[int, Field(gt=0)] = 120
    keep: Annotated[int, Field(ge=2)] = 3
    webserver: Webserver = Webserver()


@dataclass(frozen=True)
class Installation:
    """An installation in a folder.

    Args:
        folder: the folder, absolute.
    """

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> "Installation":
        """Return the installation of a folder.

        Raises:
            UserError: there is none, or `installation.toml` is wrong.
        """
        installation = cls(folder.resolve())
        file = installation.folder / "installation.toml"
        if not file.is_file():
            raise UserError(f"{folder}: there is no installation.toml: make one with `headrace release init {folder}`")
        _ = installation.settings
        return installation

    @classmethod
    def create(cls, folder: Path) -> "Installation":
        """Make the folders and the files that an operator edits, where they are missing.

        Raises:
            UserError: the folder's path is too long for sockets in it, or has a blank.
        """
        installation = cls(folder.resolve())
        if any(letter.isspace() for letter in str(installation.folder)):
            raise UserError(
                f"{installation.folder}: its path has a blank, which supervisor does not allow: choose another"
            )
        installation.check_socket("a" * 24)
        for name in ("dagster", "releases", "servers", "current", "data", "history", "logs", "locks", "run"):
            (installation.folder / name).mkdir(parents=True, exist_ok=True)
        for name, target, mode in (
            ("installation.toml", installation.folder, 0o644),
            ("env", installation.folder, 0o600),
            ("dagster.yaml", installation.folder / "dagster", 0o644),
        ):
            if not (target / name).exists():
                text = (_FILES / name).read_text(encoding="utf-8").replace("@DIR@", str(installation.folder))
                descriptor = os.open(target / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(text)
        installation.write_workspace()
        return installation

    @cached_property
    def settings(self) -> Settings:
        """Return what the operator decided.

        Raises:
            UserError: `installation.toml` is wrong.
        """
        file = self.folder / "installation.toml"
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
            if content.get("processes") == "systemd":
                raise UserError(f"{file}: processes: {_NO_UNITS}")
            return Settings.model_validate(content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise UserError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}: correct it") from None
        except ValueError as error:
            raise UserError(f"{file}: {error}: correct it") from None

    def current(self, location: str) -> Path:
        """Return the link to the folder of the server that serves a location."""
        return self.folder / "current" / location

    def deployed(self) -> list[str]:
        """Return the deployed code locations, without the platform."""
        names = {link.name for link in (self.folder / "current").iterdir() if link.is_symlink()}
        return sorted(name for name in names if name != PLATFORM and not name.startswith("."))

    def check_socket(self, location: str) -> None:
        """Refuse a path that is too long for the sockets of a location.

        Raises:
            UserError: it is.
        """
        longest = os.fsencode(self.folder / "servers" / f"{location}-0000" / SOCKET)
        if len(longest) > _LONGEST_SOCKET:
            raise UserError(
                f"{longest.decode()}: over {_LONGEST_SOCKET} bytes, too long for a socket: choose a shorter folder"
            )

    def write_workspace(self) -> bool:
        """Write `workspace.yaml`, and return whether it names other locations than before."""
        entries = [
            {"grpc_server": {"socket": str(self.current(location) / SOCKET), "location_name": location}}
            for location in self.deployed()
        ]
        text = "# Generated by `headrace release`.\n" + yaml.safe_dump({"load_from": entries}, sort_keys=False)
        file = self.folder / "workspace.yaml"
        if file.is_file() and file.read_text(encoding="utf-8") == text:
            return False
        replace_file(file, text)
        return True

    def give(self, path: Path) -> None:
        """Give what root made here to the owner of the installation, as whom its processes run."""
        owner = self.folder.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            for each in (path, *path.rglob("*")):
                os.chown(each, owner.st_uid, owner.st_gid, follow_symlinks=False)

    @contextmanager
    def lock(self, location: str) -> Iterator[None]:
        """Hold the lock of a location; the system frees it if this process is killed.

        Raises:
            click.ClickException: another command holds it.
        """
        try:
            with FileLock(self.folder / "locks" / f"{location}.lock", timeout=0):
                yield
        except Timeout:
            raise click.ClickException(f"{location}: another deploy of it is running: wait until it ends") from None


def replace_file(file: Path, text: str) -> None:
    """Write a file so that a reader sees the former one or all of the new one."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)


def replace_link(link: Path, target: str) -> None:
    """Point a link elsewhere in one step: nobody sees it missing."""
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all in it, read only or not; nothing where it is gone."""
    if folder.exists():
        shutil.rmtree(folder)
