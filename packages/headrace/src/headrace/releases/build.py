"""The command `headrace release build`."""

from pathlib import Path

import click

from headrace.cli.user_errors import OneLineCommand
from headrace.releases.contents import Build, download_wheels
from headrace.releases.release import MANIFEST
from headrace.releases.subject import Subject
from headrace.releases.variables import read_variables
from headrace.tools.git import WORKING_TREE, Repository
from headrace.tools.uv import Uv
from headrace.workspace import Workspace

WHEELHOUSE = "wheelhouse"


@click.command("build", cls=OneLineCommand)
@click.argument("location")
@click.option(
    "--out", type=click.Path(path_type=Path), default="dist", show_default=True, help="Folder for the release."
)
@click.option("--rev", default="HEAD", show_default=True, metavar="REV", help="The revision to build.")
@click.option(
    "--env-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="NAME=VALUE lines: the variables of the installation, which the dbt manifest must fit.",
)
@click.option("--wheelhouse", is_flag=True, help=f"Download all wheels into OUT/{WHEELHOUSE} too.")
@click.option("--force", is_flag=True, help="Replace another build of the same revision.")
@click.option("--format", "output", type=click.Choice(["text", "json"]), default="text", help="Output format.")
def build(
    *, location: str, out: Path, rev: str, env_file: Path | None, wheelhouse: bool, force: bool, output: str
) -> None:
    """Build the release of LOCATION, or of `platform`: the webserver and the daemon.

    Builds from a checkout of the revision, into OUT/LOCATION-<time of the commit>-<revision>, and prints that path. Two
    builds of a revision with the same variables are equal.
    """
    repository = Repository(Workspace.find().root)
    commit = repository.commit(rev)
    subject = Subject.of(repository, commit, location)
    variables = read_variables(env_file) if env_file else {}
    if commit == repository.commit("HEAD") and (changes := repository.changes(commit, WORKING_TREE)):
        count = f"{len(changes)} uncommitted file{'s are' if len(changes) > 1 else ' is'}"
        click.echo(f"warning: {count} not in the release of {commit[:12]}, such as {changes[0].path}", err=True)
    made = Build(repository, commit, subject, variables, out, lambda step: click.echo(f"{location}: {step}", err=True))
    release, new = made.run(force=force)
    if wheelhouse:
        click.echo(f"{location}: download wheels into {out / WHEELHOUSE}", err=True)
        download_wheels(release, out / WHEELHOUSE, Uv.find())
    click.echo(f"{location}: {'built' if new else 'already built'}, digest {release.info.digest[:12]}", err=True)
    text = (release.folder / MANIFEST).read_text(encoding="utf-8") if output == "json" else f"{release.folder}\n"
    click.echo(text, nl=False)
