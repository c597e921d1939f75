"""How a release before the code version had forms wrote a text: form 1, by which what it built is compared.

It took some texts for one that are not, so the next form is stricter. To be deleted, with what calls it, when nobody
upgrades from such a release any more.
"""

import re
from functools import lru_cache

_TOKEN = re.compile(
    r"""
    (?P<nothing>\{\#.*?\#\})
    | (?P<kept>\{\{.*?\}\} | \{%.*?%\} | '(?:[^']|'')*' | "(?:[^"]|"")*" | \$\$.*?\$\$)
    | (?P<comment>--[^\n]* | /\*.*?\*/)
    | (?P<space>\s+)
    """,
    re.DOTALL | re.VERBOSE,
)


@lru_cache(maxsize=1024)
def normalized_1(code: str) -> str:
    """Return SQL with Jinja as it was hashed by form 1."""
    if "\\'" in code or '\\"' in code:
        return code.strip()
    parts: list[str] = []
    end = 0
    for token in _TOKEN.finditer(code):
        parts.append(code[end : token.start()])
        end = token.end()
        text = token.group()
        if token["comment"] and re.search(r"\{[{%]", text):
            text += "\n"  # what follows a comment is no part of it
        elif not token["kept"]:
            text = "\0"
        parts.append(text)
    parts.append(code[end:])
    return re.sub("\0+", " ", "".join(parts)).strip()
