"""Mutations that break a file, each after its kind."""

import json
import re
from pathlib import PurePosixPath

import yaml

PYTHON = b'raise RuntimeError("mutated")\n'
_BY_SUFFIX = {
    ".csv": b'"mutated\n',
    ".json": b"{",
    ".md": b"",
    ".py": PYTHON,
    ".sql": b"select {% mutated\n",
    ".yaml": b"mutated: [\n",
    ".yml": b"mutated: [\n",
}
_NO_TOML = b"= mutated\n"
_READ_BY_UV = re.compile(r"\[(project|dependency-groups|project\.optional-dependencies|\[?tool\.uv\b.*)\]")


def mutated(path: str, content: bytes) -> bytes:
    """Return a broken file in place of this one.

    A `pyproject.toml` stays readable, for uv would read no member of a workspace in which one is not: it loses all
    tables but those from which uv knows what to install.

    Args:
        path: its path.
        content: what is in it.
    """
    name = PurePosixPath(path)
    if name.name == "pyproject.toml":
        return _without_tables(content)
    if name.suffix == ".png":
        return content[: len(content) // 2]
    if name.suffix in _BY_SUFFIX:
        return _BY_SUFFIX[name.suffix]
    return _NO_TOML if content != _NO_TOML else b""


def is_broken(path: str, content: bytes) -> bool:
    """Return whether what reads such a file fails on it, or reads nothing any more of what was in it."""
    suffix = PurePosixPath(path).suffix
    if suffix in (".json", ".py", ".yml", ".yaml"):
        return _fails(suffix, content)
    signs = {
        ".sql": content.count(b"{%") != content.count(b"%}"),
        ".csv": content.count(b'"') % 2 == 1,
        ".png": not content.endswith(b"IEND\xaeB`\x82"),
    }
    return signs.get(suffix, not content or content == _NO_TOML)


def _fails(suffix: str, content: bytes) -> bool:
    try:
        if suffix == ".py":
            exec(content, {})  # noqa: S102 - a file of one line
        elif suffix == ".json":
            json.loads(content)
        else:
            yaml.safe_load(content)
    except (RuntimeError, json.JSONDecodeError, yaml.YAMLError):
        return True
    return False


def _without_tables(content: bytes) -> bytes:
    kept = []
    keeps = True
    for line in content.decode().splitlines(keepends=True):
        if line.startswith("["):
            keeps = _READ_BY_UV.match(line) is not None
        kept += [line] if keeps else []
    return "".join(kept).encode()
