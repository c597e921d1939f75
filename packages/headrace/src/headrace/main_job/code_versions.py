"""Whether two code versions are of the same code, as `dagster_dbt_common` writes them: `TEXT+2:COMPUTES+COMPUTES`.

All are hashes: of the model's own text, and of all that it computes, in each form that the release knows; the first
form has no number. What both versions have is compared, the newest form of it. A release from before there was any
knows the text alone. Any other version, such as one that a Python asset says, is compared as it is.
"""

import re
from collections.abc import Mapping

_OF_DBT = re.compile(r"(?P<text>[0-9a-f]{40,64})(?P<computes>(\+(\d+:)?[0-9a-f]{16})*)")


def is_same_code(one: str, other: str) -> bool:
    """Return whether what two materializations, or one and its asset, say is the same code."""
    if one == other:
        return True
    first, second = _OF_DBT.fullmatch(one), _OF_DBT.fullmatch(other)
    if not first or not second:
        return False
    computes, other_computes = _by_form(first["computes"]), _by_form(second["computes"])
    if both := computes.keys() & other_computes.keys():
        return computes[max(both)] == other_computes[max(both)]
    return first["text"] == second["text"]


def _by_form(computes: str) -> Mapping[int, str]:
    parts = [part.rpartition(":") for part in computes.split("+")[1:]]
    return {int(form or 1): digest for form, _, digest in parts}
