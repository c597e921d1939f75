"""The files of tests that took longest in the last `make test`, each with its reason; `make slowest` prints them.

Times are pytest's, in the workers' seconds: what several workers do at once is added up. The seconds of computing are
those of the tests and of the processes that they have waited for. The reason is the argument of the mark `slow` in the
file.
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import click

ROOT = Path(__file__).parents[1]


def seconds_by_file(reports: Path) -> tuple[Counter[Path], Counter[Path]]:
    """Return the seconds of each file below the workspace, and those in which it computed.

    Args:
        reports: a folder of pytest's JUnit reports.

    Raises:
        click.ClickException: there is none: no tests were run.
    """
    found: Counter[Path] = Counter()
    computed: Counter[Path] = Counter()
    for report in sorted(reports.glob("*.xml")):
        for case in ET.parse(report).iter("testcase"):  # noqa: S314 - written by pytest
            file = _file(case.get("classname", ""))
            found[file] += float(case.get("time", "0"))  # type: ignore[assignment]
            for each in case.iter("property"):
                if each.get("name") == "cpu_seconds":
                    computed[file] += float(each.get("value", "0"))  # type: ignore[assignment]
    if not found:
        raise click.ClickException(f"{reports}: no reports of pytest: run `make test` first")
    return found, computed


def reason(file: Path) -> str:
    """Return why a file of tests is slow, as it says itself; nothing where it does not."""
    return next(_reasons(ast.parse(file.read_text(encoding="utf-8"))), "")


def _file(classname: str) -> Path:
    """Return the file of a name such as `tests.test_alerts`, or that of a class in it."""
    path = Path(*classname.split("."))
    return next((there for there in (path, *path.parents) if (ROOT / there).with_suffix(".py").is_file()), path)


def _reasons(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="slow"), args=[ast.Constant(value=str(why))]):
                yield why


@click.command()
@click.argument("reports", type=click.Path(path_type=Path))
@click.option("--number", default=10, show_default=True, help="How many files.")
def main(reports: Path, number: int) -> None:
    """Print the slowest files of the REPORTS that pytest wrote, as a Markdown table."""
    seconds, computed = seconds_by_file(reports)
    click.echo("| seconds | of it computing | file | why |\n|---:|---:|---|---|")
    for path, taken in seconds.most_common(number):
        file = path.with_suffix(".py")
        why = reason(ROOT / file) if (ROOT / file).is_file() else ""
        click.echo(f"| {taken:.0f} | {computed[path]:.0f} | `{file}` | {why} |")
    click.echo(f"\n{sum(seconds.values()):.0f} s, {sum(computed.values()):.0f} of computing, in {len(seconds)} files")


if __name__ == "__main__":
    sys.exit(main())
