"""Whether two code versions are of the same code, as `dagster_dbt_common` writes them: `TEXT+FORM:COMPUTES`.

Both are hashes: of the model's own text, and of all that it computes, in a form that a later release may change. A
release from before the form was written has none, and one from before the second hash knows the first alone. Any other
version, such as one that a Python asset says, is compared as it is.
"""

import re

_OF_DBT = re.compile(r"(?P<text>[0-9a-f]{40,64})(\+((?P<form>\d+):)?(?P<computes>[0-9a-f]{16}))?")


def is_same_code(one: str, other: str) -> bool:
    """Return whether what two materializations, or one and its asset, say is the same code."""
    if one == other:
        return True
    first, second = _OF_DBT.fullmatch(one), _OF_DBT.fullmatch(other)
    if not first or not second:
        return False
    if first["computes"] and second["computes"] and first["form"] == second["form"]:
        return first["computes"] == second["computes"]
    return first["text"] == second["text"]
