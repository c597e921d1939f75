"""The report as a table: for a terminal, and as Markdown for a pull request."""

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from headrace.dbt_ci.report import Failure, Model, Report

_COMMENT_LIMIT = 65_536  # characters of a comment on GitHub
_ROOM = 60  # characters to say what was left out
_HEADINGS = ("model", "change", "rows before", "rows after", "rows that differ", "columns", "tests")


def as_table(report: Report) -> Table:
    """Return the table for a terminal."""
    table = Table(*_HEADINGS[:2], box=None, pad_edge=False, header_style="bold")
    for heading in _HEADINGS[2:4]:
        table.add_column(heading, justify="right")
    for heading in _HEADINGS[4:]:
        table.add_column(heading)
    for model in report.models:
        style = "red" if _is_failed(model) else "yellow" if model.is_surprising else None
        table.add_row(*(Text(cell) for cell in _cells(model)), style=style)
    return table


def as_lines(report: Report) -> Iterator[str]:
    """Yield what comes below the table."""
    for model in report.models:
        lines = list(_details(model))
        if lines:
            yield f"{model.name}:"
            yield from (f"  {line}" for line in lines)
    yield from (f"warning: {_told(found)}" for found in report.warnings)
    yield from (f"failed: {_told(found)}" for found in report.failures)
    yield _conclusion(report)


def as_markdown(report: Report, limit: int = _COMMENT_LIMIT) -> str:
    """Return it for a comment on a pull request, not longer than `limit` characters.

    What does not fit is left out from the end of the details, then of the table, and the text says so.
    """
    head = ["### How the models would change", "", _conclusion(report), ""]
    told = [("**failed**", found) for found in report.failures] + [("warning", found) for found in report.warnings]
    failed = [f"- {word}: {_escaped(_told(found))}" for word, found in told]
    table = [f"| {' | '.join(_HEADINGS)} |", "|---|---|--:|--:|---|---|---|"]
    rows = [f"| {' | '.join(_escaped(cell) for cell in _cells(model))} |" for model in report.models]
    details = []
    for model in report.models:
        lines = [f"  - {_escaped(line)}" for line in _details(model)]
        details += [f"- `{model.name}`", *lines] if lines else []
    text = _fitted(head, [*failed, *([""] if failed else []), *(table if rows else []), *rows], limit)
    if details:
        begin, end = ["", "<details><summary>Rows that differ</summary>", ""], ["", "</details>"]
        room = limit - len("\n".join(end)) - 1
        if len("\n".join([*text, *begin])) + _ROOM < room:
            text = _fitted([*text, *begin], details, room) + end
    return "\n".join(text)


def _fitted(text: Sequence[str], more: Sequence[str], limit: int) -> list[str]:
    """Return lines followed by as many more as there is room for."""
    left = limit - len("\n".join(text)) - _ROOM
    kept: list[str] = []
    for line in more:
        left -= len(line) + 1
        if left < 0:
            return [*text, *kept, "", f"{len(more) - len(kept):,} more lines do not fit here."]
        kept.append(line)
    return [*text, *kept]


def _cells(model: Model) -> Sequence[str]:
    change = "unchanged, but its rows change" if model.is_surprising else model.change
    return (
        model.name,
        change if model.build in (None, "success") else f"{change}, {model.build}",
        _number(model.rows_before),
        _number(model.rows_after),
        _rows(model),
        _columns(model),
        _tests(model),
    )


def _number(rows: int | None) -> str:
    return "" if rows is None else f"{rows:,}"


def _rows(model: Model) -> str:
    if model.rows is None:
        return ""
    rows = model.rows
    signs = (("+", rows.added), ("-", rows.removed), ("~", rows.changed))
    differing = " ".join(f"{sign}{count:,}" for sign, count in signs if count) or "none"
    return differing + (f" of 1 in {rows.one_in:,}" if rows.one_in > 1 else "")


def _columns(model: Model) -> str:
    retyped = [f"{name}: {before} → {after}" for name, (before, after) in model.columns.retyped.items()]
    added, removed = (
        [f"{sign}{name}" for name in names]
        for sign, names in (("+", model.columns.added), ("-", model.columns.removed))
    )
    values = [f"~{name}" for name in (model.rows.columns if model.rows else ()) if name not in model.columns.retyped]
    return ", ".join([*added, *removed, *retyped, *values])


def _tests(model: Model) -> str:
    tests = model.tests
    words = (("passed", tests.passed), ("warned", tests.warned), ("failed", tests.failed), ("skipped", tests.skipped))
    return ", ".join(f"{count} {word}" for word, count in words if count)


def _details(model: Model) -> Iterator[str]:
    if model.not_compared and model.change != "new":
        yield f"not compared: {model.not_compared}"
    rows = model.rows
    if rows and rows.columns:
        yield "changed: " + ", ".join(f"{name} in {_rows_of(count)}" for name, count in rows.columns.items())
    if rows and not rows.key:
        yield "no unique key: a changed row counts as one removed and one added"
    for example in rows.examples if rows else ():
        key = ", ".join(f"{name} {value}" for name, value in example.key.items())
        yield f"{example.change}: {key}" + (f" ({', '.join(example.columns)})" if example.columns else "")


def _rows_of(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _conclusion(report: Report) -> str:
    if not report.models and not report.failures:
        return "No model changes."
    said = f"{len(report.models)} model{'' if len(report.models) == 1 else 's'}"
    said += f", {len(report.failures)} failed" if report.failures else ", all built and tested"
    surprising = sum(model.is_surprising for model in report.models)
    said += f"; {surprising} unchanged, but their rows change" if surprising else ""
    said += f". Partitioned models: from {report.start} to before {report.end}" if report.start else ""
    return said + "."


def _told(found: Failure) -> str:
    return f"{found.name}: {found.message or found.status}"


def _is_failed(model: Model) -> bool:
    return bool(model.tests.failed) or model.build not in (None, "success")


def _escaped(text: str) -> str:
    """Return a text that is no Markdown and no HTML."""
    for sign in ("\\", "|", "`", "*", "_", "[", "<"):
        text = text.replace(sign, "&lt;" if sign == "<" else f"\\{sign}")
    return text
