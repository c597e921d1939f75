"""One entry more in a YAML or TOML file that people write: its comments, order and layout stay."""

import re
from collections.abc import Sequence
from textwrap import dedent, indent
from typing import Any

import tomlkit
import yaml
from tomlkit.exceptions import ParseError
from tomlkit.items import AoT, Array


class InsertionError(Exception):
    """A file is not written as this needs it; the message is what stands between the file's name and what to do."""


def appended(text: str, way: Sequence[str], entry: str) -> str:
    """Return a YAML text with an entry after the last one of a list or mapping, which has its entries on lines.

    Args:
        text: the text.
        way: the keys to the list or mapping.
        entry: the lines of the entry, without the indentation of its place.

    Raises:
        InsertionError: there is no such list or mapping with an entry, or the result says something else too.
    """
    place = _place(text, way)
    if not isinstance(place, yaml.CollectionNode) or place.flow_style or not place.value:
        raise InsertionError(f"{'.'.join(way)}: no entries on lines of their own")
    first = place.value[0]
    column = first[0].start_mark.column if isinstance(first, tuple) else place.start_mark.column
    found = _inserted(text, place, " " * column, entry)
    _check(text, found, way)
    return found


def appended_inside(text: str, way: Sequence[str], inner: Sequence[str], entry: str) -> str:
    """Return a YAML text with an entry after the last one of a list, in a block of text that is YAML itself.

    Args:
        text: the text.
        way: the keys to the block.
        inner: the keys to the list, in the block; it is the last thing there.
        entry: the line of the entry, without the indentation of its place.

    Raises:
        InsertionError: there is no such block, or the result says something else too.
    """
    place = _place(text, way)
    if not isinstance(place, yaml.ScalarNode) or place.style != "|":
        raise InsertionError(f"{'.'.join(way)}: no block of lines")
    lines = text.splitlines(keepends=True)
    last = lines[_end(text, lines, place) - 1]
    found = _inserted(text, place, last[: len(last) - len(last.lstrip())], entry)
    before, after = (_value(yaml.safe_load(each), way) for each in (text, found))
    _check(before, after, inner)
    return found


def with_member(text: str, name: str, requirement: str, project: str) -> str:
    """Return the root's `pyproject.toml` with one location more: uv's source, dev group, dg's project, import floors.

    Args:
        text: the text.
        name: the member.
        requirement: what the dev group asks for, the member with its extra.
        project: the member's folder.

    Raises:
        InsertionError: one of the three is missing.
    """
    try:
        document = tomlkit.parse(text)
    except ParseError:
        raise InsertionError("no TOML") from None
    sources: Any = _table(document, ("tool", "uv", "sources"))
    group: Any = _table(document, ("dependency-groups",)).get("dev")
    projects: Any = _table(document, ("tool", "dg", "workspace")).get("projects")
    if not isinstance(group, Array) or not isinstance(projects, AoT):
        raise InsertionError("no dev group, or no [[tool.dg.workspace.projects]]")
    sources.append(name, tomlkit.value("{ workspace = true }"))
    _extend_floors(document, name)
    named = [index for index, asked in enumerate(group) if str(asked).partition("[")[0] in sources]
    text = tomlkit.dumps(document)
    # By lines: tomlkit moves the comment of an array's neighbour, and puts a table of a list behind other tables.
    asked = re.escape(f'"{group[named[-1]]}",') if named else r"dev = \["
    text = _after_line(text, rf"^ *{asked} *(#.*)?\n", f'    "{requirement}",\n')
    last = re.escape(f'[[tool.dg.workspace.projects]]\npath = "{projects[-1]["path"]}"')
    text = _after_line(text, rf"^{last} *(#.*)?\n", f'\n[[tool.dg.workspace.projects]]\npath = "{project}"\n')
    expected = document.unwrap()
    expected["dependency-groups"]["dev"].insert(named[-1] + 1 if named else 0, requirement)
    expected["tool"]["dg"]["workspace"]["projects"].append({"path": project})
    if tomlkit.parse(text).unwrap() != expected:
        raise InsertionError("the dev group or [[tool.dg.workspace.projects]] is not written on lines of its own")
    return text


def _extend_floors(document: Any, name: str) -> None:
    """Let import-linter hold a location too, where the workspace has its contract `members`."""
    floors = document["tool"].get("importlinter", {})
    for contract in floors.get("contracts", ()):
        if contract.get("id") == "members":
            floors["root_packages"].append(name)
            contract["layers"][0] = f"{contract['layers'][0]} | {name}"


def _after_line(text: str, line: str, more: str) -> str:
    """Return a text with more after the one line that matches a pattern."""
    found = list(re.finditer(line, text, re.MULTILINE))
    if len(found) != 1:
        raise InsertionError(f"{len(found)} lines like {line}")
    return text[: found[0].end()] + more + text[found[0].end() :]


def _table(document: Any, way: Sequence[str]) -> Any:
    for key in way:
        document = document.get(key) if document is not None else None
    if document is None:
        raise InsertionError(f"no table {'.'.join(way)}")
    return document


def _place(text: str, way: Sequence[str]) -> yaml.Node:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        raise InsertionError("no YAML") from None
    for key in way:
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        node = next((value for name, value in pairs if name.value == key), None)
    if node is None:
        raise InsertionError(f"no {'.'.join(way)}")
    return node


def _end(text: str, lines: Sequence[str], node: yaml.Node) -> int:
    """Return how many lines there are up to a node's last one: to YAML it ends where the next begins."""
    end = len(lines) if node.end_mark.index >= len(text) else node.end_mark.line
    while not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#"):
        end -= 1
    return end


def _inserted(text: str, node: yaml.Node, margin: str, entry: str) -> str:
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    end = _end(text, lines, node)
    return "".join((*lines[:end], indent(dedent(entry), margin), *lines[end:]))


def _check(before: str, after: str, way: Sequence[str]) -> None:
    """Compare what two texts say: the last entry, and nothing else, is new."""
    try:
        old, new = yaml.safe_load(before), yaml.safe_load(after)
        place = _value(new, way)
        if isinstance(place, list):
            place.pop()
        else:
            place.popitem()
    except (yaml.YAMLError, AttributeError, IndexError, KeyError, TypeError):
        new = None
    if new != old:
        raise InsertionError(f"{'.'.join(way)}: an entry does not fit after the last one")


def _value(content: Any, way: Sequence[str]) -> Any:
    for key in way:
        content = content[key]
    return content
