"""The command `headrace new location`."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from headrace.cli.interrupts import ending_on_signals
from headrace.cli.user_errors import OneLineCommand, OneLineGroup, UserError
from headrace.new.entries import LOCK, deploy_templates, edited, entries_of, made
from headrace.new.folder import render
from headrace.new.names import check_name
from headrace.new.transaction import all_or_nothing
from headrace.tools.git import WORKING_TREE, Repository
from headrace.tools.uv import Uv
from headrace.workspace import Workspace

_TEMPLATES = ("copier.yml", "templates/")


@click.group("new", cls=OneLineGroup)
def new() -> None:
    """What a workspace can have more of."""


@new.command("location", cls=OneLineCommand)
@click.argument("name")
@click.option("--dbt", is_flag=True, help="With a dbt project of its own, which reads the lake.")
def location(*, name: str, dbt: bool) -> None:
    """Make the code location NAME: its folder in projects/, and its entries in the files that locations share.

    It is made of the template that HEAD has, templates/location, and locked. Nothing is written where anything fails.
    """
    workspace = Workspace.find()
    root = workspace.root
    repository = Repository(root)
    commit = repository.commit("HEAD")
    files = edited(root, dbt=dbt)
    check_name(name, workspace, made(name))
    _check_clean(repository, commit, files)
    templates = repository.texts(commit, deploy_templates())
    if "copier.yml" not in templates:
        raise UserError(f"{root / 'copier.yml'}: not committed, and it describes the template: bring it back")
    texts = entries_of(name, root, templates, dbt=dbt)
    uv = Uv.find()
    with ending_on_signals(), TemporaryDirectory(prefix="headrace-new-") as temporary:
        folder = Path(temporary, name)
        render(root, commit, name, folder, dbt=dbt)
        with all_or_nothing(root, files, made(name)):
            shutil.copytree(folder, root / "projects" / name)
            for path, text in texts.items():
                (root / path).write_text(text, encoding="utf-8")
            uv.run("lock", "--quiet", cwd=root, what=LOCK)
    click.echo(f"projects/{name} is there, and named in {', '.join(files)}")
    click.echo("next: `make install`, `make check`, `headrace run`; then commit")


def _check_clean(repository: Repository, commit: str, files: tuple[str, ...]) -> None:
    """Refuse to mix with what is not committed.

    Raises:
        UserError: a file that would change, or the template, has uncommitted changes.
    """
    for change in repository.changes(commit, WORKING_TREE):
        if change.path in files or change.path.startswith(_TEMPLATES):
            raise UserError(f"{repository.root / change.path}: it has uncommitted changes: commit or stash them")
