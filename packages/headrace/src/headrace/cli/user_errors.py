"""How a command tells its user that the call was wrong: one line, exit code 2."""

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_NO_ROOM_BYTES = 16 * 2**20


class UserError(click.ClickException):
    """A wrong call or wrong input. The message says what, where and what to do."""

    exit_code = 2


class OneLineCommand(click.Command):
    """A command that takes `-h`, and whose usage errors are one line too: click would print its usage before them."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Of each command: click keeps the names that a command was first asked by, alone or below its group.
        self.context_settings.setdefault("help_option_names", ["-h", "--help"])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments of the command line."""
        try:
            return super().parse_args(ctx, args)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            raise UserError(error.format_message()) from error

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; a file or folder that it may not use, or a disk that is full, is one line."""
        try:
            return super().invoke(ctx)
        except (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
            raise UserError(f"{error.filename}: {error.strerror}: make it usable, or give another one") from error
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except Exception as error:
            if said := full_disk(error):
                raise click.ClickException(
                    f"no space is left on a disk ({said}): make room, and call it again"
                ) from error
            if said := _first_line(error, _is_of_a_lock):
                raise click.ClickException(
                    f"Dagster's history is in use ({said}): end what holds its files, and call it again"
                ) from error
            raise


def full_disk(error: BaseException | None) -> str | None:
    """Return the first line of the error by which a disk is full, of an error and what it was raised from."""
    return _first_line(error, _is_of_a_full_disk)


def _first_line(error: BaseException | None, is_it: Callable[[BaseException], bool]) -> str | None:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if is_it(error):
            return str(error).splitlines()[0]
        seen.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def _is_of_a_lock(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and str(error).endswith("is locked")


def _is_of_a_full_disk(error: BaseException) -> bool:
    """Return whether an error says so: one of the system, or of a database, which says it in words alone."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    said = str(error)
    if "disk I/O error" in said:
        # SQLite's, of a journal that it maps into memory; a broken disk gives the same.
        places = (Path(os.environ.get("HEADRACE_STATE", ".")), Path())
        return any(shutil.disk_usage(place).free < _NO_ROOM_BYTES for place in places if place.exists())
    return "No space left on device" in said or "disk is full" in said


class OneLineGroup(OneLineCommand, click.Group):
    """A group of commands whose usage errors are one line too."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the command line names."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            message = error.format_message().rstrip(".")
            raise UserError(f"{message}: see `{ctx.command_path} --help`") from error
