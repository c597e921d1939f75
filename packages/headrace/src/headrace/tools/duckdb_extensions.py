"""DuckDB's extensions out of wheels of PyPI, signed as those of DuckDB's own server are; nothing is downloaded."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata, resources
from pathlib import Path

import duckdb

from headrace.cli.user_errors import UserError

OF_S3 = ("httpfs", "aws")
"""What reads and writes an object store."""


def install_extensions(folder: Path, names: Sequence[str]) -> Sequence[str]:
    """Copy extensions from their packages to where DuckDB looks for them, and return them with their versions.

    Args:
        folder: that of this machine's extensions.
        names: the extensions.

    Raises:
        UserError: a package is missing, or made for another DuckDB.
    """
    found = []
    for name in names:
        package = f"duckdb-extension-{name.replace('_', '-')}"
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            extra = "s3" if name in OF_S3 else "ducklake"
            raise UserError(f"{package} is not installed: install the extra `{extra}` of analytics") from None
        if version != duckdb.__version__:
            raise UserError(
                f"{package} {version} does not fit duckdb {duckdb.__version__}: install equal versions of both"
            )
        wheel = resources.files(f"duckdb_extension_{name}") / "extensions" / f"v{version}"
        with resources.as_file(wheel / f"{name}.duckdb_extension") as file, connected(folder) as connection:
            # DuckDB checks the signature when it loads it.
            connection.install_extension(str(file))
            connection.load_extension(name)
        found.append(f"{name} {version}")
    return found


@contextmanager
def connected(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Connect to a database in memory, with the extensions of a folder and no others."""
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(
        config={"extension_directory": str(folder), "autoinstall_known_extensions": False}
    ) as connection:
        yield connection
