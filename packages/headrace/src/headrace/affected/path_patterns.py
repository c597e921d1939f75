"""Patterns of paths: `*` and `?` within a folder's name, `**` over any number of folders."""

import re
from collections.abc import Iterable
from functools import cache


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Return whether a path, relative and with slashes, is one of these patterns as a whole."""
    return any(_compiled(pattern).fullmatch(path) for pattern in patterns)


def is_path(pattern: str) -> bool:
    """Return whether a pattern is the path of one file."""
    return not set(pattern) & set("*?")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return re.compile("".join(known.get(part, re.escape(part)) for part in parts), re.DOTALL)
