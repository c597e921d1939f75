"""The environment variables that a release is built for: a file of the installation's, and what of it is secret."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from headrace.releases.release import entries_of
from headrace.user_errors import UserError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(
    r"^DBT_ENV_SECRET|(^|_)(ACCESS_KEY|API_KEY|CREDENTIALS?|PASS|PASSPHRASE|PASSWD|PASSWORD|PRIVATE_KEY|SECRET|TOKEN)(_|$)",
    re.IGNORECASE,
)
_WITH_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")
_SHORTEST = 6  # a shorter value stands in any text


def read_variables(file: Path) -> Mapping[str, str]:
    """Return the variables of a file of `NAME=VALUE` lines, as systemd's `EnvironmentFile` and compose read it.

    A value may stand in quotes. Empty lines and those that begin with `#` say nothing.

    Raises:
        UserError: it can not be read, or a line is no variable; the message does not have its value.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"--env-file {file}: {error.strerror}: give a file of NAME=VALUE lines") from None
    except UnicodeDecodeError:
        raise UserError(f"--env-file {file}: it is not UTF-8: give a file of NAME=VALUE lines") from None
    found = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if text and not text.startswith("#"):
            name, separator, value = text.partition("=")
            if not separator or not _NAME.fullmatch(name):
                raise UserError(f"--env-file {file}: line {number}: no NAME=VALUE: mend it")
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
            found[name] = value[1:-1] if quoted else value
    return found


def is_secret(name: str, value: str) -> bool:
    """Return whether a variable's value must not be told: by its name, or as it is an address with a password."""
    return bool(_SECRET.search(name) or _WITH_PASSWORD.search(value))


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
                    f"{name}: its value would stand in the release's {path.relative_to(folder)}: read it in "
                    "profiles.yml alone, or where the location runs"
                )


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in entries_of(folder) if path.is_file())
