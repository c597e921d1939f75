"""Python, git and uv: found, and of a version that the workspace takes."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import click
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from headrace.doctor.examined import Examined, table
from headrace.doctor.finding import Finding, State
from headrace.doctor.packages import Environment
from headrace.tools.uv import Uv


def check_toolchain(examined: Examined, environments: list[Environment]) -> Iterator[Finding]:
    """Look at the Python of each environment, and at git and uv."""
    wanted = str(table(examined.pyproject, "project").get("requires-python", ""))
    for environment in environments:
        yield _fits(
            "python", f"{environment.interpreter}: Python", environment.python, wanted, "install a Python of it"
        )
    git = shutil.which("git")
    if git is None:
        yield Finding("git", "wrong", "git is not on PATH", "install it: Debian: apt install git")
    else:
        yield Finding("git", "ok", f"{git}: {_said(git, '--version')}")
    wanted = str(table(examined.pyproject, "tool", "uv").get("required-version", ""))
    own = examined.root / ".headrace" / "uv" / "bin" / "uv"
    try:
        uv = own if own.is_file() else Uv.find().executable
    except click.ClickException:
        yield Finding("uv", "wrong", "uv is neither in .headrace/uv nor on PATH", "make install")
        return
    words = _said(str(uv), "--version").split()
    version = words[1] if len(words) > 1 else ""
    found = _fits("uv", f"{uv}: uv", version, wanted, "install one of it: pip install --upgrade uv")
    yield found if version else replace(found, state="unknown", says=f"{uv} does not print its version")


def _fits(check: str, what: str, version: str, wanted: str, mend: str) -> Finding:
    try:
        fits = Version(version) in SpecifierSet(wanted)
    except (InvalidSpecifier, InvalidVersion) as error:
        return Finding(check, "unknown", f"{what} {version}: {error}", f"correct {wanted!r} in pyproject.toml")
    state: State = "ok" if fits else "wrong"
    says = f"{what} {version}" if fits else f"{what} {version}, and the workspace takes {wanted}"
    return Finding(check, state, says, None if fits else mend)


def _said(command: str, *arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - the user's git or uv
            [command, *arguments], check=False, capture_output=True, text=True, errors="replace", timeout=30
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"it does not run: {error}"
    return done.stdout.strip()
