"""Which dbt sources are declared otherwise in two versions of their YAML files.

dbt's `state:modified` compares sources as an environment rendered them: against the manifest of production, where the
lake is elsewhere, all are modified. And it does not compare their columns.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

_SAID_OF_NO_ROW = frozenset({"description", "data_tests", "tests"})


def sources_declared_otherwise(before: Iterable[str], after: Iterable[str], project: str) -> set[str]:
    """Return the unique ids of the sources that are new or declared otherwise.

    Descriptions do not count, nor do tests, which are nodes of their own.

    Args:
        before: the texts of the changed YAML files, as they were.
        after: the texts of the changed YAML files, as they are.
        project: the name of the dbt project.
    """
    old, new = _declared(before), _declared(after)
    changed = [names for names, declared in new.items() if old.get(names) != declared]
    return {f"source.{project}.{source}.{table}" for source, table in changed}


def _declared(texts: Iterable[str]) -> Mapping[tuple[str, str], Any]:
    found = {}
    for text in texts:
        for source in _sources(text):
            shared = _without_words({key: value for key, value in source.items() if key != "tables"})
            for table in _mappings(source.get("tables")):
                found[str(source.get("name")), str(table.get("name"))] = (shared, _without_words(table))
    return found


def _sources(text: str) -> list[Any]:
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # a date that there is not is a ValueError
        return []
    return _mappings(content.get("sources")) if isinstance(content, dict) else []


def _mappings(value: Any) -> list[Any]:
    """Return those of a list: a file beside the models may mean something else by the same words."""
    return [inner for inner in value if isinstance(inner, dict)] if isinstance(value, list) else []


def _without_words(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_words(inner) for key, inner in value.items() if key not in _SAID_OF_NO_ROW}
    return [_without_words(inner) for inner in value] if isinstance(value, list) else value
