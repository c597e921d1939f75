"""dbt's names, where Dagster's rules for names are narrower: one rule, so that any valid project loads.

A character that is no letter from a to z, digit or underscore becomes an underscore. Tests of one model whose names are
then the same have the first six digits of the SHA-256 of their unique id behind them; one that is called so in dbt too,
and alone is, keeps its name. An owner that is no e-mail address is a team of its name.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

_NOT_TAKEN = re.compile(r"[^A-Za-z0-9_]")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


def dagster_name(name: str) -> str:
    """Return a name with what Dagster does not take replaced."""
    return _NOT_TAKEN.sub("_", name)


def dagster_owner(owner: str) -> str:
    """Return an owner as Dagster takes one: an e-mail address, or a team."""
    if _EMAIL.fullmatch(owner) or owner.startswith("team:"):
        return owner
    return f"team:{dagster_name(owner)}"


def names_of_checks(tests: Collection[str], nodes: Mapping[str, Mapping[str, Any]]) -> Mapping[str, str]:
    """Return the names of the checks of one model, by the unique ids of its tests.

    Args:
        tests: the unique ids.
        nodes: dbt's nodes.
    """
    said = {test: str(nodes[test]["name"]) for test in tests}
    exact, mapped = Counter(said.values()), Counter(map(dagster_name, said.values()))

    def name(test: str) -> str:
        short = dagster_name(said[test])
        keeps = mapped[short] == 1 or (short == said[test] and exact[short] == 1)
        return short if keeps else f"{short}_{hashlib.sha256(test.encode()).hexdigest()[:6]}"

    return {test: name(test) for test in tests}


def not_ascii(nodes: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the first of these nodes whose name has a letter that no name in Dagster can have; None if there is none.

    It is part of the name of a step's output, which Dagster builds of it by a rule of its own.
    """
    return next((props for props in nodes if not str(props["name"]).isascii()), None)
