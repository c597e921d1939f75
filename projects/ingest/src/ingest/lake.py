"""Writes files of the lake so that a reader sees the old one or the new one, never half."""

import fcntl
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import duckdb

from ingest.settings import SettingError

# Their stores show an object when its upload is complete, and until then the one before it.
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "az", "abfs", "abfss"})


Write = Callable[[Path], None]


class Lake(Protocol):
    """A place for files that are named by their path below it, such as `raw/stores/data.parquet`."""

    def location(self, name: str) -> str:
        """Return the path or URL by which `name` is found from outside."""

    def replace(self, name: str, write: Write) -> int:
        """Put in place of `name` the file that `write` makes at the path it is given; return its bytes."""

    def remove(self, name: str) -> None:
        """Remove `name` where it is there."""

    def connect(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let `connection` read the lake's locations."""


def open_lake(url: str) -> Lake:
    """Return the lake at a folder or the URL of an object store.

    Raises `SettingError` for a URL whose files could be seen half written.
    """
    protocol = url.partition("://")[0] if "://" in url else "file"
    if protocol in {"file", "local"}:
        return FolderLake(Path(url.removeprefix(f"{protocol}://")))
    if protocol in OBJECT_STORES:
        return ObjectLake(url)
    raise SettingError(
        f"HEADRACE_LAKE: {url!r} has no atomic replace; use a folder or {', '.join(sorted(OBJECT_STORES))}"
    )


class FolderLake:
    """A lake in a folder: a temporary file in the same folder is synced and renamed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def location(self, name: str) -> str:
        """Return the absolute path of `name`."""
        return str(self._root / name)

    def replace(self, name: str, write: Write) -> int:
        """Replace `name`; after the return it survives a power cut. Raises `OSError`."""
        target = self._root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_orphans(target)
        with _temporary(target) as (path, descriptor):
            write(path)
            os.fsync(descriptor)
            size = os.fstat(descriptor).st_size
            path.replace(target)
        _sync_folder(target.parent)
        return size

    def remove(self, name: str) -> None:
        """Remove `name`, and what a killed writer of it left. Raises `OSError`."""
        target = self._root / name
        if target.parent.is_dir():
            _remove_orphans(target)
            target.unlink(missing_ok=True)
            _sync_folder(target.parent)

    def connect(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Do nothing: DuckDB reads folders by itself."""


class ObjectLake:
    """A lake in an object store: a file is made locally and put as one object, in parts if it is large.

    The library is obstore: with s3fs, a put into an endpoint that hangs never returned. Credentials are those of the
    store's own variables, such as `AWS_ACCESS_KEY_ID`, or of the machine.

    Args:
        url: the bucket, and a folder in it.
        request_seconds: how long one request may take.
        retry_seconds: how long a request that is refused, cut or unanswered is made again; the last one may take
            `request_seconds` more.
    """

    def __init__(self, url: str, *, request_seconds: float = 30, retry_seconds: float = 60) -> None:
        try:
            from obstore.exceptions import BaseError  # noqa: PLC0415 - an extra
            from obstore.store import from_url  # noqa: PLC0415
        except ImportError as error:
            raise SettingError(f"HEADRACE_LAKE: {url!r} needs a package that is missing: install ingest[s3]") from error
        self._url = url.rstrip("/")
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        self._options: dict[str, Any] = {
            "client_options": {
                "timeout": timedelta(seconds=request_seconds),
                "connect_timeout": timedelta(seconds=min(5, request_seconds)),
                "allow_http": endpoint.startswith("http://"),
            },
            "retry_config": {
                "max_retries": 10,
                "retry_timeout": timedelta(seconds=retry_seconds),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=5),
                    "base": 2,
                },
            },
        }
        try:
            self._store = from_url(self._url, **self._options)
        except BaseError as error:
            raise SettingError(f"HEADRACE_LAKE: {url!r}: {_first_line(error)}") from error

    def location(self, name: str) -> str:
        """Return the URL of `name`."""
        return f"{self._url}/{name}"

    def replace(self, name: str, write: Write) -> int:
        """Replace `name`. Raises `OSError`, also where the store does not answer in time."""
        import obstore  # noqa: PLC0415
        from obstore.exceptions import BaseError  # noqa: PLC0415

        with tempfile.TemporaryDirectory(prefix="ingest-") as folder:
            path = Path(folder) / "data"
            write(path)
            try:
                # Few parts at once: each has to be there within the time of a request.
                obstore.put(self._store, name, path, max_concurrency=2)
            except FileNotFoundError as error:
                raise OSError(f"{self.location(name)}: there is no such bucket") from error
            except BaseError as error:
                raise OSError(f"{self.location(name)}: {_first_line(error)}") from error
            return path.stat().st_size

    def remove(self, name: str) -> None:
        """Remove `name`. Raises `OSError`, also where the store does not answer in time."""
        import obstore  # noqa: PLC0415
        from obstore.exceptions import BaseError  # noqa: PLC0415

        try:
            obstore.delete(self._store, name)
        except FileNotFoundError:
            return
        except BaseError as error:
            raise OSError(f"{self.location(name)}: {_first_line(error)}") from error

    def connect(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Register the store as a file system of fsspec."""
        from obstore.fsspec import FsspecStore  # noqa: PLC0415

        protocol: Any = self._url.partition("://")[0]  # one of `OBJECT_STORES`
        connection.register_filesystem(FsspecStore(protocol, **self._options))


def _first_line(error: Exception) -> str:
    """Return what an error of obstore's says; below it is how Rust shows its source."""
    return str(error).strip().partition("\n")[0].partition("<?xml")[0].rstrip(" :")


@contextmanager
def _temporary(target: Path) -> Iterator[tuple[Path, int]]:
    """Make a file beside `target`, locked while its writer lives; unless renamed, it is gone afterwards."""
    while True:
        path = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Another writer may have taken it for an orphan before it was locked.
            if os.fstat(descriptor).st_nlink == 0:
                continue
            yield path, descriptor
            return
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)


def _remove_orphans(target: Path) -> None:
    for path in target.parent.glob(f".{target.name}.*.tmp"):
        with suppress(FileNotFoundError), path.open("rb") as file:
            # A killed writer's lock went with it; one that is held belongs to a run at work on the same day.
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            path.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
