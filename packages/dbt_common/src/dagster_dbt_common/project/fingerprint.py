"""What a dbt manifest is made from: files, environment variables, versions and flags, each by its hash."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MACROS_DIR = Path(__file__).parents[1] / "macros"
"""The macros of this package; a dbt project names the folder, or the variable that says it, in its `macro-paths`."""

MACROS_VARIABLE = "DAGSTER_DBT_COMMON_MACROS"

NOT_READ_BY_DBT = ("target", "logs", ".git", ".venv", "__pycache__", ".user.yml", "node_modules")

# https://docs.getdbt.com/reference/dbt_project.yml
_FOLDERS = {
    "model-paths": ["models"],
    "seed-paths": ["seeds"],
    "test-paths": ["tests"],
    "analysis-paths": ["analyses"],
    "macro-paths": ["macros"],
    "snapshot-paths": ["snapshots"],
    "function-paths": ["functions"],
    "docs-paths": [],
}
_SUFFIXES = {".sql", ".py", ".yml", ".yaml", ".csv", ".md", ".json"}
_SHOWN_DIFFERENCES = 3
_ENV_VAR = re.compile(rb"""env_var\(\s*['"](\w+)['"]""")
_SECRET = re.compile(
    r"^DBT_ENV_SECRET|(^|_)(ACCESS_KEY|API_KEY|CREDENTIALS?|PASS|PASSPHRASE|PASSWD|PASSWORD|PRIVATE_KEY|SECRET|TOKEN)(_|$)",
    re.IGNORECASE,
)
_CONNECTING = ("profiles.yml", "packages.yml", "dependencies.yml")


@dataclass(frozen=True)
class Fingerprint:
    """What a manifest is made from.

    Args:
        files: the hash of each file that dbt reads, by its path in the project.
        variables: the hash of each environment variable that they read; empty for one that is not set. A secret that
            only a connection needs is none of them: no manifest has it, and whoever reads its hash could guess it.
        versions: the installed packages of dbt and of this one.
        choice: the profile and target flags.
    """

    files: Mapping[str, str]
    variables: Mapping[str, str]
    versions: Mapping[str, str]
    choice: Sequence[str]

    @classmethod
    def of(cls, project_dir: Path, profiles_dir: Path, choice: Sequence[str]) -> Fingerprint:
        """Read the files of a project, and what else bears on its manifest."""
        files = {}
        variables = {MACROS_VARIABLE.encode()}
        for name, path in _files(project_dir, profiles_dir):
            content = path.read_bytes()
            connects = path.name in _CONNECTING
            found = _ENV_VAR.findall(content)
            variables.update(variable for variable in found if not (connects and is_secret(variable.decode())))
            files[name] = hashlib.sha256(content).hexdigest()
        values = {name.decode(): os.environb.get(name) for name in variables}
        if values[MACROS_VARIABLE] == os.fsencode(MACROS_DIR):
            values[MACROS_VARIABLE] = None  # what a process says that has run dbt, and one that has not leaves unsaid
        hashed = {name: "" if value is None else hashlib.sha256(value).hexdigest() for name, value in values.items()}
        return cls(files, hashed, _versions(), list(choice))

    @classmethod
    def from_json(cls, text: str) -> Fingerprint:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """Return it as JSON, the same text for the same content."""
        return json.dumps(asdict(self), sort_keys=True)

    @cached_property
    def hash(self) -> str:
        """Return 16 hex digits that change with any of it."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def is_parsed_from(self, former: Fingerprint) -> bool:
        """Return whether dbt may begin with another one's manifest and parse the files that differ.

        dbt compares less: not the target that a profile names, nor what else of it a model may read.
        """
        return (self.variables, self.versions, list(self.choice), self._of_all()) == (
            former.variables,
            former.versions,
            list(former.choice),
            former._of_all(),
        )

    def _of_all(self) -> Mapping[str, str]:
        """Return the files that bear on each node: those of the project's and the profiles' own folders."""
        return {name: hashed for name, hashed in self.files.items() if name.removeprefix("project/").count("/") == 0}

    def difference(self, other: Fingerprint) -> str:
        """Return in a few words what differs from another, the first three things."""
        found = [] if self.choice == other.choice else [f"flags {list(self.choice)}, not {list(other.choice)}"]
        for kind in ("variables", "versions", "files"):
            mine, theirs = getattr(self, kind), getattr(other, kind)
            found += [
                f"{kind}: {name}" for name in sorted(mine.keys() | theirs.keys()) if mine.get(name) != theirs.get(name)
            ]
        more = f" and {len(found) - _SHOWN_DIFFERENCES} more" if len(found) > _SHOWN_DIFFERENCES else ""
        return ", ".join(found[:_SHOWN_DIFFERENCES]) + more


def is_secret(variable: str) -> bool:
    """Return whether an environment variable has the name of a secret."""
    return bool(_SECRET.search(variable))


def secrets_of(project_dir: Path) -> Mapping[str, str]:
    """Return the environment variables named as secrets that a project reads, each with the first file that does.

    A file that connects comes last: a name that stands with another file is in the manifest.
    """
    files = sorted(_files(project_dir, project_dir), key=lambda file: (file[1].name in _CONNECTING, file[0]))
    found: dict[str, str] = {}
    for _, path in files:
        for variable in _ENV_VAR.findall(path.read_bytes()):
            if is_secret(variable.decode()):
                found.setdefault(variable.decode(), os.path.relpath(path, project_dir))
    return found


def is_connection(file: str) -> bool:
    """Return whether a file says no more than how to connect, and to what."""
    return Path(file).name in _CONNECTING


def _files(project_dir: Path, profiles_dir: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files that dbt parses: its own at the root, and those of the folders that the project names."""
    for path in project_dir.iterdir():
        if path.suffix in (".yml", ".yaml") and path.is_file():
            yield f"project/{path.name}", path
    project = yaml.safe_load((project_dir / "dbt_project.yml").read_text()) or {}
    folders = {folder for key, default in _FOLDERS.items() for folder in project.get(key, default)}
    folders.add(project.get("packages-install-path", "dbt_packages"))
    for folder in sorted(folders):
        # A path with a template is of the environment: this package's macros, which are below.
        root = project_dir / folder
        if "{{" not in folder and root.is_dir():
            for path in _tree(root):
                yield f"project/{os.path.relpath(path, project_dir)}", path
    if profiles_dir != project_dir and (profiles_dir / "profiles.yml").is_file():
        yield "profiles.yml", profiles_dir / "profiles.yml"
    for path in MACROS_DIR.glob("*.sql"):
        yield f"macros/{path.name}", path


def _tree(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in NOT_READ_BY_DBT]
        for name in names:
            path = Path(folder, name)
            if path.suffix in _SUFFIXES and path.is_file():
                yield path


@cache
def _versions() -> Mapping[str, str]:
    """Return the installed packages of dbt; only of those the metadata is read, which takes a millisecond each."""
    folders = [Path(folder) for folder in sys.path if Path(folder).is_dir()]
    names = {path.name.partition("-")[0] for folder in folders for path in folder.glob("*.*-info")}
    found = {}
    for name in names:
        # pip leaves the half of a package that it could not remove, by a name with a tilde.
        with suppress(metadata.PackageNotFoundError):
            if "dbt" in name.lower():
                installed = metadata.distribution(name)
                found[installed.name.lower()] = installed.version
    return found
