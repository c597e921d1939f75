"""The command `headrace dbt ci`: builds what a change affects beside production, and says what differs."""

import os
import secrets
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import duckdb
from rich.console import Console

from headrace.affected.command import DEFAULT_BASE
from headrace.affected.data import Revisions, dbt_of, dbt_projects, nodes_of
from headrace.affected.dbt_changes import DbtProject
from headrace.affected.members import Difference
from headrace.cli.interrupts import ending_on_signals
from headrace.cli.user_errors import OneLineCommand, OneLineGroup, UserError
from headrace.dbt_ci.build import BUILT, Builder, Choice, prepare
from headrace.dbt_ci.models import Comparer
from headrace.dbt_ci.profile import PROFILES, Target, production_file
from headrace.dbt_ci.report import Report, as_json
from headrace.dbt_ci.tables import as_lines, as_markdown, as_table
from headrace.dbt_ci.warehouse import SCRATCH, Warehouse, open_ducklake, open_postgres, open_warehouse
from headrace.dbt_ci.windows import window_of
from headrace.tools.dbt import Dbt, read_manifest
from headrace.tools.duckdb_extensions import OF_S3, install_extensions
from headrace.tools.ducklake import DuckLake
from headrace.tools.git import WORKING_TREE, Repository
from headrace.workspace import Workspace

_WIDTH = 200
_DAY = click.DateTime(["%Y-%m-%d"])


@click.group("dbt", cls=OneLineGroup)
def dbt() -> None:
    """Commands for the workspace's dbt project."""


@dbt.command("ci", cls=OneLineCommand)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="The folder of production's manifest.",
)
@click.option("--warehouse", type=click.Path(path_type=Path), metavar="FILE", help="Production's DuckDB file.")
@click.option(
    "--base", metavar="REV", help=f"Compare files with this revision.  [default: merge base with {DEFAULT_BASE}]"
)
@click.option("--project", metavar="FOLDER", help="The dbt project, if there are several.")
@click.option("--target", metavar="NAME", help="The target in dbt's profile.  [default: the profile's own]")
@click.option("--select", multiple=True, metavar="SELECTION", help="Only these affected nodes; dbt's syntax.")
@click.option("--exclude", multiple=True, metavar="SELECTION", help="Leave these out; dbt's syntax.")
@click.option("--from", "first", type=_DAY, metavar="DAY", help="First day of partitioned models.")
@click.option("--to", "last", type=_DAY, metavar="DAY", help="Last day.  [default: production's last day]")
@click.option("--days", type=click.IntRange(min=1), default=7, show_default=True, help="Days to build without --from.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=1_000_000,
    show_default=True,
    metavar="ROWS",
    help="Compare a sample of models with more rows.",
)
@click.option(
    "--examples", type=click.IntRange(min=0), default=5, show_default=True, help="Keys to show for each model."
)
@click.option(
    "--wait",
    type=click.IntRange(min=0),
    default=120,
    show_default=True,
    help="Seconds to wait for production's writer.",
)
@click.option("--hooks", is_flag=True, help="Run hooks beside a DuckLake or a Postgres: none may write production.")
@click.option("--fail-on-diff", is_flag=True, help="Exit with code 1 if the rows of an unchanged model change.")
@click.option(
    "--format", "output", type=click.Choice(["text", "json", "markdown"]), default="text", help="Output format."
)
def ci(
    *,
    state: Path,
    warehouse: Path | None,
    base: str | None,
    project: str | None,
    target: str | None,
    select: tuple[str, ...],
    exclude: tuple[str, ...],
    first: datetime | None,
    last: datetime | None,
    days: int,
    limit: int,
    examples: int,
    wait: int,
    hooks: bool,
    fail_on_diff: bool,
    output: str,
) -> None:
    """Build what a change affects beside production, run its tests, and print what differs.

    Builds into a DuckDB file of its own, or into schemas of its own beside a production in a DuckLake or a Postgres,
    which are removed at the end, also after a failure, SIGINT or SIGTERM. The rest is read from production, whose
    tables are never written. Exit code 0: built and tested; 1: something failed; 2: wrong call.
    """
    workspace = Workspace.find()
    adapter, database = _adapter_and_database(state)
    with ending_on_signals(), ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="headrace-dbt-ci-"))).resolve()
        found, difference, revisions, dbt_ = _project(workspace, state, base, project)
        where = workspace.root / found.folder
        if state.resolve() == (where / "target").resolve():
            raise UserError(
                f"--state {state}: dbt writes this project's own manifest there: copy production's elsewhere"
            )
        if workspace.lake.startswith("s3://"):
            install_extensions(workspace.duckdb_extensions, OF_S3)
        beside = _Beside(workspace, where, target, folder, adapter, database)
        options = ["--profiles-dir", str(folder)]
        dbt_ = replace(dbt_, options=options, environment=beside.environment)
        opened = stack.enter_context(beside.opened(warehouse, wait))
        _say(f"comparing {found.folder} with the manifest of {state}")
        affected = nodes_of(found, difference, revisions, workspace.root, dbt_)
        chosen = affected.nodes
        if select or exclude:
            options = [word for each in select for word in ("--select", *each.split())]
            options += [word for each in exclude for word in ("--exclude", *each.split())]
            chosen = chosen & dbt_.listed(where, folder / "listed", options, root=workspace.root)
        choice = Choice(affected.manifest, read_manifest(state), affected.changed, chosen)
        choice.refuse_outside(opened, with_hooks=hooks)
        before = [node for each in choice.built if (node := choice.in_production(each))]
        window = window_of(
            choice.built,
            before or choice.state["nodes"].values(),
            opened,
            first=_day(first),
            last=_day(last),
            days=days,
        )
        try:
            prepare(choice, opened)
        except duckdb.Error as error:
            raise UserError(f"{database}: {' '.join(str(error).split())}") from None
        if choice.built:
            said = f", partitioned ones from {window.start} to before {window.end}" if window else ""
            _say(f"building {len(choice.built)} of {_models(choice)} models{said}")
        results = Builder(dbt_, where, workspace.root, state, folder / "target", _say).build(choice, window)
        with opened.read():
            comparer = Comparer(choice, results, opened, window, limit, examples, _say)
            report = Report(
                project=found.folder,
                start=window.start.isoformat() if window else None,
                end=window.end.isoformat() if window else None,
                models=comparer.models(),
                failures=comparer.failures(),
                warnings=comparer.warnings(),
            )
    _print(report, output)
    if not report.passed or (fail_on_diff and any(model.is_surprising for model in report.models)):
        raise click.exceptions.Exit(1)


@dataclass(frozen=True)
class _Beside:
    """What CI builds in, beside production.

    Args:
        workspace: the workspace.
        project: the folder of `dbt_project.yml`.
        name: the target's name, where one is given.
        folder: one that is removed at the end.
        adapter: that of production's manifest.
        database: production's, by its manifest.
    """

    workspace: Workspace
    project: Path
    name: str | None
    folder: Path
    adapter: str
    database: str

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the variables that dbt gets."""
        return {
            **self.workspace.environment(),
            # Whatever the target's name is: one that is given by --target may be a DuckLake.
            "HEADRACE_DUCKLAKE_DATA": self.workspace.ducklake_data,
            "HEADRACE_DUCKDB_EXTENSIONS": str(self.workspace.duckdb_extensions),
            "HEADRACE_WAREHOUSE": str(self._scratch),
        }

    @property
    def _scratch(self) -> Path:
        return self.folder / f"{SCRATCH}.duckdb"

    def opened(self, file: Path | None, wait: int) -> AbstractContextManager[Warehouse]:
        """Return production and what CI builds beside it, for which dbt's profile is written.

        Args:
            file: production's, where it is given.
            wait: how many seconds to wait for its writer.

        Raises:
            UserError: the target is none that CI can build beside, or is not what production was built with.
        """
        target = Target.of(self.project, self.name, environment={**os.environ, **self.environment})
        if target.output.get("type") != self.adapter:
            raise UserError(
                f"the manifest of production is for {self.adapter}, and target {target.name} of {target.file} for "
                f"{target.output.get('type')}: choose production's with --target, or with HEADRACE_TARGET"
            )
        if target.kind == "file":
            there = production_file(self.project, self.name, environment={**os.environ, **self.workspace.environment()})
            production = (file or there or self.workspace.warehouse).absolute()
            self._write(target.in_a_file(self._scratch, production, self.database))
            return open_warehouse(production, self.database, self._scratch, wait=wait, say=_say)
        if file:
            raise UserError(
                f"--warehouse {file}: target {target.name} of {target.file} is no DuckDB file: leave it out"
            )
        schema = f"{SCRATCH}_{datetime.now(UTC):%Y%m%d_%H%M%S}_{secrets.token_hex(4)}"
        self._write(target.in_a_schema(schema))
        if target.kind == "postgres":
            return open_postgres(target, self.workspace.duckdb_extensions, self.database, schema, _say)
        lake = DuckLake.of(self.workspace)
        if target.attached_as("lake") != f"ducklake:postgres:{lake.catalog}":
            raise UserError(
                f"{target.file}: target {target.name} attaches another lake than HEADRACE_DUCKLAKE_CATALOG names, or "
                "under another name than lake: `headrace dbt ci` builds in that one"
            )
        return open_ducklake(lake, schema, _say)

    def _write(self, profile: str) -> None:
        (self.folder / PROFILES).write_text(profile, encoding="utf-8")


def _project(
    workspace: Workspace, state: Path, base: str | None, folder: str | None
) -> tuple[DbtProject, Difference, Revisions, Dbt]:
    repository = Repository(workspace.root)
    commit = repository.commit(base) if base else _left(repository)
    revisions = Revisions(repository, commit, WORKING_TREE, state)
    difference = Difference.between(repository, commit, WORKING_TREE)
    projects = dbt_projects(difference, revisions)
    folder = folder or _project_of_the_environment(workspace.root)
    if folder:
        projects = [project for project in projects if Path(project.folder) == Path(folder)]
    if len(projects) != 1:
        names = ", ".join(project.folder for project in projects) or "none"
        wanted = f" in {folder}" if folder else ""
        raise UserError(
            f"{workspace.root}: one dbt project of a code location is needed{wanted}, found {names}: "
            "choose it with --project"
        )
    dbt_ = dbt_of(projects[0], difference, workspace, revisions)
    return projects[0], difference, revisions, dbt_


def _project_of_the_environment(root: Path) -> str | None:
    """Return the folder that `HEADRACE_DBT_PROJECT` says, from the workspace's root; None where it says none.

    Raises:
        UserError: it is outside of the workspace, whose revisions are compared.
    """
    said = os.environ.get("HEADRACE_DBT_PROJECT")
    if not said:
        return None
    project = Path(said).resolve()
    if not project.is_relative_to(root.resolve()):
        raise UserError(
            f"HEADRACE_DBT_PROJECT: {said} is not in {root}, whose revisions are compared: unset it, or pass --project"
        )
    return str(project.relative_to(root.resolve()))


def _left(repository: Repository) -> str:
    """Return where HEAD left the main branch, or HEAD itself where that is not to be told."""
    try:
        return repository.merge_base(DEFAULT_BASE, "HEAD")
    except UserError as error:
        _say(f"comparing manifests only, which misses changed sources, vars and large seeds: {error.message}")
        return repository.commit("HEAD")


def _adapter_and_database(state: Path) -> tuple[str, str]:
    """Return the adapter and the name of production's database by its manifest.

    Raises:
        UserError: there is no manifest, or it is not of one database.
    """
    if not (state / "manifest.json").is_file():
        raise UserError(
            f"--state {state}: there is no manifest.json: copy the one with which production was last built"
        )
    manifest = read_manifest(state)
    nodes = (node for node in manifest["nodes"].values() if node["resource_type"] in BUILT)
    names = sorted({node["database"] for node in nodes if not node["config"].get("database")} - {None})
    if len(names) != 1:
        raise UserError(
            f"--state {state}: its models are in {', '.join(names) or 'no database'}: one database is needed"
        )
    if names[0] == SCRATCH:
        raise UserError(
            f"--state {state}: its models are in {SCRATCH}, which CI builds: give the manifest of production"
        )
    return str(manifest["metadata"].get("adapter_type")), str(names[0])


def _models(choice: Choice) -> int:
    return sum(node["resource_type"] in BUILT for node in choice.manifest["nodes"].values())


def _day(given: datetime | None) -> date | None:
    return given.date() if given else None


def _say(line: str) -> None:
    click.echo(line, err=True)


def _print(report: Report, output: str) -> None:
    if output == "json":
        click.echo(as_json(report))
    elif output == "markdown":
        click.echo(as_markdown(report))
    else:
        if report.models:
            # A file or a pipe has no width: rich would take 80 and break the lines.
            Console(soft_wrap=True, width=None if sys.stdout.isatty() else _WIDTH).print(as_table(report))
        for line in as_lines(report):
            click.echo(line)
