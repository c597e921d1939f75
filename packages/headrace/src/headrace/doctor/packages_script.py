"""Prints the packages of the interpreter that runs it, as JSON; imports the standard library alone.

{"python": "3.12.3", "packages": {"duckdb": {"version": "1.5.5", "requires": ["numpy; extra == 'all'"]}}}
"""

import json
import platform
import re
from importlib import metadata


def installed() -> dict[str, dict[str, object]]:
    """Return version and requirements of each distribution, by its normalized name; the first on the path counts."""
    found: dict[str, dict[str, object]] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            normalized = re.sub(r"[-_.]+", "-", name).lower()
            found.setdefault(normalized, {"version": distribution.version, "requires": distribution.requires or []})
    return found


if __name__ == "__main__":
    print(json.dumps({"python": platform.python_version(), "packages": installed()}))  # noqa: T201 - its result
