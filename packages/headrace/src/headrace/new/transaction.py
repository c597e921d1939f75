"""Files that are changed together, or not at all."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def all_or_nothing(root: Path, edited: Iterable[str], made: Iterable[str]) -> Iterator[None]:
    """Take back what the context did to files where it ends with an error or an interruption.

    Args:
        root: a folder; the others are relative to it.
        edited: the files that it changes.
        made: the files and folders that it makes.
    """
    before = {root / path: (root / path).read_bytes() for path in edited}
    try:
        yield
    except BaseException:
        for path in (root / path for path in made):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        for path, content in before.items():
            path.write_bytes(content)
        raise
