"""The text of a model, without what means nothing: comments, white space, the case of keywords, the order of CTEs.

It is SQL with Jinja in it, so it is read as text: sqlglot parses none of it before dbt has compiled it. What a text
leaves open stays as it is, and a change of it counts as one.
"""

from __future__ import annotations

import re
from functools import lru_cache
from graphlib import TopologicalSorter

_JINJA = r"""\{\{(?>'[^']*'|"[^"]*"|.)*?\}\} | \{%(?>'[^']*'|"[^"]*"|.)*?%\}"""
_STRING = rf"""'(?>{_JINJA}|\{{\#.*?\#\}}|''|[^'])*+' | "(?>{_JINJA}|\{{\#.*?\#\}}|""|[^"])*+" | `[^`]*`
    | \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$"""
_TOKEN = re.compile(
    rf"""(?P<nothing>\{{\#.*?\#\}}) | (?P<jinja>{_JINJA}) | (?P<string>{_STRING})
    | (?P<comment>--[^\r\n]* | /\*.*?\*/) | (?P<space>[ \t\r\n\f\v]+)""",
    re.DOTALL | re.VERBOSE,
)
# Of which a text alone does not tell the meaning: a quote behind a backslash, white space that Jinja takes away, a
# comment with another one or with Jinja in it, two strings that a line end makes one, a block that may become a string.
_UNSURE = re.compile(
    r"""\\['"] | \{\#- | -\#\} | /\*(?:(?!\*/).)*?(?:/\*|\{[{%\#]) | --[^\r\n]*\{[{%\#]
    | '\s*(?:--[^\n]*)?\n\s*' | \r(?!\n) | \{%-?\s*(?:call|filter|raw|set\s+\w+(?:\s*,\s*\w+)*\s*-?%)""",
    re.DOTALL | re.VERBOSE,
)
_QUOTE_IN_QUOTES = re.compile(r""""[^"]*'[^"]*"|'[^']*"[^']*'""")
_CONFIG = re.compile(r"\{\{-?\s*config\s*(?=\()")
# Words that name no column without quotes where they stand; behind a dot or `as` they may.
_WORDS = r"""
    (?: group | order | partition )\ by | over(?=\ ?\() | not | select | distinct | from | where | having | limit
    | offset | qualify | union | except | intersect | all | with(?:\ recursive)? | join | inner | left | right | full
    | outer | cross | lateral | on | using | as | and | or | in | is | null | like | case | when | then | else
    | end | asc | desc | true | false"""
_KEYWORD = re.compile(
    rf"""(?P<kept>{_JINJA} | {_STRING}) | (?P<blank>(?<=[(,])\ |\ (?=[),]))
    | (?<![.\w$@]) (?<!\bas\ ) (?: {_WORDS} ) (?![\w$]|\ ?:)""",
    re.DOTALL | re.VERBOSE | re.IGNORECASE,
)
_CTE = re.compile(r"(?P<name>[A-Za-z_]\w*) as (?:(?:not )?materialized )?(?=\()", re.IGNORECASE)
# Jinja that writes no name of a CTE.
_WRITES_NO_CTE = re.compile(r"\{\{-?\s*(?:ref|source|in_window|in_window_or_all)\((?:[^(){}]|\{[^{}]*\})*\)\s*-?\}\}")


@lru_cache(maxsize=1024)  # a macro is asked for by each node that calls it
def normalized(code: str) -> str:
    """Return SQL with Jinja without its comments, and with one blank for white space.

    A text that leaves open what is a comment, a string or Jinja stays as it is.
    """
    known = _without_nothing(code)
    return code.strip() if known is None else known


def canonical(code: str) -> str:
    """Return a model's SQL as `normalized` does, with its keywords in lower case and its CTEs in one order.

    A blank inside of a bracket or beside a comma is left out too. It is for dialects in which these words are reserved,
    DuckDB's and Postgres's, and for models: what a macro writes may be a string. A text with a block of Jinja stays as
    `normalized` has it: a loop may make CTEs.
    """
    known = _without_nothing(code)
    if known is None or "{%" in known:
        return normalized(code)
    return _in_order(_KEYWORD.sub(_one_form, known))


@lru_cache(maxsize=1024)
def may_make_strings(code: str) -> bool:
    """Return whether Jinja may write a part of a string or of a quoted name: then each blank that it writes counts."""
    for token in _TOKEN.finditer(code):
        if token["string"] and ("{{" in token["string"] or "{%" in token["string"]):
            return True
        if token["jinja"] and _QUOTE_IN_QUOTES.search(token["jinja"]):
            return True
    return bool(_UNSURE.search(code))


def _without_nothing(code: str) -> str | None:
    """Return a text without comments, and with one blank for white space; None where it is left open what is what."""
    if _UNSURE.search(code):
        return None
    parts: list[str] = []
    end = 0
    for token in _TOKEN.finditer(code):
        parts.append(code[end : token.start()])
        end = token.end()
        jinja = token["jinja"] or ""
        if "--" in jinja or "/*" in jinja or _QUOTE_IN_QUOTES.search(jinja):
            return None  # it may write the beginning of a comment, or of a string
        if not token["nothing"]:
            parts.append(jinja or token["string"] or "\0")
    parts.append(code[end:])
    return re.sub("\0+", " ", "".join(parts)).strip()


def _one_form(found: re.Match[str]) -> str:
    if found["kept"]:
        return found["kept"]
    return "" if found["blank"] else found.group().lower()


def _in_order(code: str) -> str:
    """Return SQL with its CTEs by their names, each behind those that it reads.

    Not where one speaks of itself or of a later one: that is a table of this name, and would be the CTE elsewhere. Nor
    where Jinja may write the name of one.
    """
    start = re.match(r"with (?!recursive\b)", code)
    if start is None or "$" in code or "`" in code or "{{" in _WRITES_NO_CTE.sub("", code):
        return code
    texts: dict[str, str] = {}
    bodies: dict[str, str] = {}
    position = start.end()
    while True:
        head = _CTE.match(code, position)
        end = end_of_call(code, head.end()) if head else 0
        if not head or not end or (name := head["name"].lower()) in texts:
            return code
        texts[name], bodies[name] = code[position:end], code[head.end() : end]
        if code[end : end + 1] != ",":
            break
        position = end + 1
    reads = {name: {other for other in texts if re.search(rf"\b{other}\b", bodies[name], re.I)} for name in texts}
    names = list(texts)
    if any(reads[name] & set(names[place:]) for place, name in enumerate(names)):
        return code
    sorter = TopologicalSorter(reads)
    sorter.prepare()
    ordered: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        ordered += ready
        sorter.done(*ready)
    return "with " + ",".join(texts[name] for name in ordered) + code[end:]


def without_config(code: str) -> str:
    """Return a model's code without its calls of `config(...)`: what they say is in the node's config."""
    while match := _CONFIG.search(code):
        end = end_of_call(code, match.end())
        closing = re.match(r"\s*-?\}\}", code[end:]) if end else None
        if closing is None:
            return code
        code = code[: match.start()] + code[end + closing.end() :]
    return code


def config_calls(code: str) -> list[str]:
    """Return a model's calls of `config(...)`, as they are written."""
    calls = [(match.start(), end_of_call(code, match.end())) for match in _CONFIG.finditer(code)]
    return [code[start:end] for start, end in calls if end]


def end_of_call(code: str, start: int) -> int:
    """Return where the bracket at `start` is closed; 0 where it is not."""
    depth, quote = 0, ""
    position = start
    while position < len(code):
        char = code[position]
        if quote:
            if char == "\\":
                position += 1
            elif char == quote:
                quote = ""
        elif char in "'\"":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth == 0:
                return position + 1
        position += 1
    return 0
