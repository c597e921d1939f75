"""The folder of a new location, rendered by copier from the workspace's own template, as it is committed."""

import warnings
import zlib
from pathlib import Path

import click
from copier import run_copy
from copier.errors import CopierError

_LEAST, _NUMBERS = 100_000, 900_000


def render(root: Path, commit: str, name: str, folder: Path, *, dbt: bool) -> None:
    """Render the template `templates/location`, which `copier.yml` at the workspace's root describes.

    The commit stands in `.copier-answers.yml`, so that `copier update` finds the template that the folder was made of.

    Args:
        root: the folder of the workspace.
        commit: the revision of the template.
        name: the location.
        folder: where it is rendered.
        dbt: whether it has a dbt project.

    Raises:
        click.ClickException: copier cannot render it.
    """
    data = {"name": name, "dbt": dbt, "partitions_per_run": partitions_per_run(name)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a shallow clone is cloned whole
            run_copy(str(root), folder, data=data, defaults=True, vcs_ref=commit, quiet=True)
    except (CopierError, ValueError, OSError) as error:
        raise click.ClickException(f"{root / 'copier.yml'}: {' '.join(str(error).split())}") from None


def partitions_per_run(name: str) -> int:
    """Return the most partitions of a location's run: a number that no other location has, and no range reaches."""
    return _LEAST + zlib.crc32(name.encode()) % _NUMBERS
