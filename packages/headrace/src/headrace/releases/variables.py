"""The environment variables that a release is built for: a file of the installation's, and what of it is secret."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from headrace.cli.user_errors import UserError
from headrace.releases.release import entries_of
from headrace.releases.start import read_environment

_SECRET = re.compile(
    r"^DBT_ENV_SECRET|(^|_)(ACCESS_KEY|API_KEY|CREDENTIALS?|PASS|PASSPHRASE|PASSWD|PASSWORD|PRIVATE_KEY|SECRET|TOKEN)(_|$)",
    re.IGNORECASE,
)
_WITH_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")
_SHORTEST = 6  # a shorter value stands in any text


def read_variables(file: Path) -> Mapping[str, str]:
    """Return the variables of a file, read as an installation reads its `env`.

    Raises:
        UserError: it cannot be read, or a line is no variable; the message does not have its value.
    """
    try:
        return read_environment(file)
    except OSError as error:
        raise UserError(f"--env-file {file}: {error.strerror}: give a file of NAME=VALUE lines") from None
    except ValueError as error:
        raise UserError(f"--env-file {error}") from None


def is_secret(name: str, value: str) -> bool:
    """Return whether a variable's value must not be told: by its name, or as it is an address with a password."""
    return bool(_SECRET.search(name) or _WITH_PASSWORD.search(value))


def check_built_for(built: Mapping[str, str | None], here: Mapping[str, str], file: Path) -> None:
    """Compare the variables that a manifest was built with and those of an installation.

    Args:
        built: those of `release.json`; None for one that was not set.
        here: the environment in which the release will run.
        file: where an operator sets it.

    Raises:
        click.ClickException: one differs; the message has both values, but no secret.
    """
    others = [name for name in sorted(built) if built[name] != here.get(name)]
    if others:
        said = ", ".join(f"{name} {_told(name, built[name])}, not {_told(name, here.get(name))}" for name in others)
        raise click.ClickException(
            f"its manifest was built with {said}: build it with `--env-file {file}`, or correct that file"
        )


def _told(name: str, value: str | None) -> str:
    if value is None:
        return "unset"
    return "a secret" if is_secret(name, value) else f"{value!r}"


def refuse_secrets(folder: Path, variables: Mapping[str, str]) -> None:
    """Look for the values of secrets in the files of a folder.

    Raises:
        UserError: one is there; the message has its name, and not its value.
    """
    secrets = {
        name: value.encode() for name, value in variables.items() if is_secret(name, value) and len(value) >= _SHORTEST
    }
    for path in _files(folder) if secrets else ():
        content = path.read_bytes()
        for name, value in secrets.items():
            if value in content:
                raise UserError(
                    f"{name}: its value would be written into the release's {path.relative_to(folder)}: read it in "
                    "profiles.yml only, or where the location runs"
                )


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in entries_of(folder) if path.is_file())
