"""The commands of `headrace release` that look at an installation, keep it, and clear it."""

import json
from pathlib import Path
from typing import Any

import click

from headrace.cli.user_errors import OneLineCommand
from headrace.installation.history import History, locations_of
from headrace.installation.installation import Installation
from headrace.installation.installed_release import is_installed
from headrace.installation.options import format_option, to_option
from headrace.installation.prune import prune
from headrace.installation.servers import Servers, answers
from headrace.installation.supervisor import Supervisor

_NOTHING = "nothing is deployed yet: run `headrace release deploy LOCATION RELEASE`"


@click.command("init", cls=OneLineCommand)
@click.argument("folder", type=click.Path(path_type=Path))
def init(*, folder: Path) -> None:
    """Make an installation in FOLDER: installation.toml, env and dagster/dagster.yaml, which are yours to edit."""
    installation = Installation.create(folder)
    click.echo(f"edit {installation.folder}/env, then: headrace release up --to {installation.folder}")


@click.command("up", cls=OneLineCommand)
@to_option
def up(*, to: Path) -> None:
    """Run all that is deployed under supervisor, in the foreground; SIGTERM ends it after the runs in flight."""
    installation = Installation.at(to)
    click.echo(
        f"keeping what is deployed in {installation.folder}; logs are in {installation.folder / 'logs'}", err=True
    )
    Supervisor(installation).run()


@click.command("list", cls=OneLineCommand)
@click.argument("location", required=False)
@to_option
@format_option
def list_(*, location: str | None, to: Path, output: str) -> None:
    """Print the deploys of LOCATION, or of all locations, the newest last; `*` marks what serves."""
    installation = Installation.at(to)
    found = {}
    for name in locations_of(installation, location):
        entries = History(installation, name).entries()
        last = max((at for at, entry in enumerate(entries) if entry.action != "refuse"), default=None)
        found[name] = [
            {
                **entry.model_dump(),
                "installed": is_installed(installation, entry.release),
                "serves": at == last,
            }
            for at, entry in enumerate(entries)
        ]
    if output == "json":
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    if not found:
        click.echo(_NOTHING, err=True)
    for told in found.values():
        for entry in told:
            mark = "*" if entry["serves"] else " "
            gone = "" if entry["installed"] or entry["action"] == "refuse" else "  (pruned)"
            reason = f"  {entry['reason']}" if entry["reason"] else ""
            click.echo(f"{mark} {entry['at']}  {entry['action']:<8}  {entry['release']}{gone}{reason}")


@click.command("status", cls=OneLineCommand)
@to_option
@format_option
def status(*, to: Path, output: str) -> None:
    """Print the processes that serve or drain. Exit code 1: something that should serve does not."""
    installation = Installation.at(to)
    processes = Supervisor(installation)
    processes.check()
    rows: list[dict[str, Any]] = []
    for location in locations_of(installation, None):
        servers = Servers(installation, location, processes)
        current = servers.current()
        for server in [*([current] if current else []), *servers.others()]:
            for role, process in servers.states(server).items():
                serves = server == current
                if serves or process.state != "down":
                    state = process.state if serves else "draining"
                    if state == "running" and not answers(installation, server, role, process.pid):
                        state = "starting"  # or over and over again
                    rows.append(
                        {
                            "location": location,
                            "role": role,
                            "server": server.name,
                            "release": server.release,
                            "state": state,
                            "pid": process.pid,
                            "serves": serves,
                        }
                    )
    if output == "json":
        click.echo(json.dumps({"processes": rows}, indent=2))
    elif not rows:
        click.echo(_NOTHING, err=True)
    for row in rows if output == "text" else ():
        name = f"{row['server']}.{row['role']}"
        click.echo(f"{name:<32}  {row['state']:<9}  {row['pid'] or '-':<8}  {row['release']}")
    if any(row["serves"] and row["state"] != "running" for row in rows):
        raise click.exceptions.Exit(1)


@click.command("prune", cls=OneLineCommand)
@click.argument("location", required=False)
@to_option
@format_option
def prune_(*, location: str | None, to: Path, output: str) -> None:
    """Remove old releases of LOCATION, or of all; keeps the last `keep` of installation.toml, and what runs."""
    installation = Installation.at(to)
    gone = [name for each in locations_of(installation, location) for name in prune(installation, each)]
    click.echo(
        json.dumps({"removed": gone}) if output == "json" else "\n".join(gone), nl=bool(gone) or output == "json"
    )
