"""The command `headrace affected`: what a change needs to have tested, deployed, built and checked."""

from pathlib import Path
from typing import Literal

import click

from headrace.affected.data import Revisions, affected_data
from headrace.affected.members import Difference, touched
from headrace.affected.report import Affected, as_github, as_json, as_text
from headrace.affected.workspace_revision import LOCK
from headrace.cli.user_errors import OneLineCommand, UserError
from headrace.tools.git import WORKING_TREE, Repository
from headrace.workspace_file import WORKSPACE, root_above

DEFAULT_BASE = "origin/main"

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)

Purpose = Literal["test", "deploy", "dbt"]


@click.command("affected", cls=OneLineCommand)
@click.option(
    "--base", metavar="REV", help=f"The revision to compare with.  [default: the merge base with {DEFAULT_BASE}]"
)
@click.option("--head", default="HEAD", show_default=True, metavar="REV", help="The revision with the change.")
@click.option("--for", "purpose", type=click.Choice(["test", "deploy", "dbt"]), help="The purpose of the answer.")
@click.option(
    "--format", "output", type=click.Choice(["text", "json", "github"]), default="text", help="Output format."
)
@click.option("--explain", is_flag=True, help="For each member, print the files that touch it.")
@click.option(
    "--state",
    type=_FOLDER,
    metavar="DIR",
    help="Folder of the manifest before the change.  [default: made from --base]",
)
def affected(
    *, base: str | None, head: str, purpose: Purpose | None, output: str, explain: bool, state: Path | None
) -> None:
    """Print which members, locations, dbt nodes and assets a change affects.

    Uncommitted changes and untracked files count if the head is what is checked out. --for test prints the members to
    test, --for deploy those whose deployed code changed; neither starts dbt or loads a location.
    """
    _, answer, _ = affected_by(base=base, head=head, purpose=purpose, state=state)
    if output == "json":
        click.echo(as_json(answer))
    elif output == "github":
        click.echo(as_github(answer))
    else:
        click.echo(as_text(answer, purpose=purpose, explain=explain))


def affected_by(
    *, base: str | None, head: str = "HEAD", purpose: Purpose | None, state: Path | None = None
) -> tuple[Path, Affected, str]:
    """Return the workspace's root, what a change affects in it, and the commit with which it was compared.

    Args:
        base: a revision; where `head` left `DEFAULT_BASE` if None.
        head: a revision; with the uncommitted changes where it is what is checked out.
        purpose: what it is asked for.
        state: the folder of the manifest before, where there is one.

    Raises:
        UserError: there is no such revision, or no workspace.
        click.ClickException: dbt or a location fails.
    """
    root = root_above(Path.cwd(), (WORKSPACE, LOCK))
    repository = Repository(root)
    head_commit = repository.commit(head)
    base_commit = repository.commit(base) if base else repository.merge_base(DEFAULT_BASE, head)
    revisions = Revisions(
        repository=repository,
        base=base_commit,
        head=WORKING_TREE if head_commit == repository.commit("HEAD") else head_commit,
        state=state,
    )
    return root, _answer(revisions, purpose), base_commit


def _answer(revisions: Revisions, purpose: Purpose | None) -> Affected:
    difference = Difference.between(revisions.repository, revisions.base, revisions.head)
    if difference.lock is None:
        raise UserError(f"{revisions.repository.root / LOCK}: no readable uv lock: run `uv lock` and commit it")
    deployed = touched(difference, tested=False)
    members = deployed if purpose == "deploy" else touched(difference, tested=True)
    locations = [
        location.name
        for location in difference.locations
        # What an unknown member is of, any change may be of.
        if location.member in deployed or (location.member is None and deployed)
    ]
    nodes, assets = affected_data(difference, deployed, revisions) if purpose in (None, "dbt") else ([], [])
    return Affected(
        members=sorted(members),
        deploy=sorted(locations),
        dbt=nodes,
        assets=assets,
        contracts=bool(locations) or "headrace" in deployed,
        reasons=members,
    )
