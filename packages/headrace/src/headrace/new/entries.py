"""What a location is outside of its folder: the files of its own, and its entries in those that locations share."""

from collections.abc import Mapping
from pathlib import Path

import yaml
from jinja2 import Environment, StrictUndefined

from headrace.cli.user_errors import UserError
from headrace.new.insertion import InsertionError, appended, appended_inside, with_member

_DEPLOY = "templates/deploy"
_CONFIG = "copier.yml"
_COMPOSE, _S3 = "deploy/compose.yaml", "deploy/compose.s3.yaml"
_HELM, _WORKSPACE, _PYPROJECT = "deploy/helm/base.yaml", "workspace.yaml", "pyproject.toml"

LOCK = "uv.lock"


def edited(root: Path, *, dbt: bool) -> tuple[str, ...]:
    """Return the files that a new location changes; a workspace may have dropped those of a form of deployment."""
    deploy = (_COMPOSE, _HELM, *((_S3,) if dbt else ()))
    return (_PYPROJECT, LOCK, _WORKSPACE, *(file for file in deploy if (root / file).is_file()))


def made(name: str) -> tuple[str, ...]:
    """Return what a new location makes: its folder, and its file of Helm values."""
    return (f"projects/{name}", f"deploy/helm/{name}.yaml")


def entries_of(name: str, root: Path, templates: Mapping[str, str], *, dbt: bool) -> Mapping[str, str]:
    """Return the texts of the changed and the new files outside of a location's folder, but for the lock.

    Args:
        name: the location.
        root: the folder of the workspace.
        templates: the texts of `deploy_templates()`, as they are committed.
        dbt: whether it has a dbt project.

    Raises:
        UserError: a file is not written as this needs it, or a template is missing.
    """
    found: dict[str, str] = {}

    def template(file: str) -> str:
        path = f"{_DEPLOY}/{file}"
        if path not in templates:
            raise UserError(f"{path}: not committed, and a location is made of it: bring it back")
        return _environment(templates[_CONFIG]).from_string(templates[path]).render(name=name, dbt=dbt)

    def edit(file: str, way: tuple[str, ...], entry: str) -> None:
        found[file] = appended(_text(root, file, found), way, entry)

    server = "{{host: {name}, port: 4000, {key}: {name}}}"
    file = _PYPROJECT
    try:
        requirement = f"{name}[s3]" if dbt else name
        found[file] = with_member(_text(root, file, found), name, requirement, f"projects/{name}")
        file = _WORKSPACE
        edit(
            file,
            ("load_from",),
            f"- python_module:\n    module_name: {name}.definitions\n    location_name: {name}\n",
        )
        for file in edited(root, dbt=dbt):
            if file == _HELM:
                servers = ("dagsterWebserver", "workspace", "servers")
                edit(file, servers, f"- {server.format(name=name, key='name')}\n")
                found[f"deploy/helm/{name}.yaml"] = template("helm.yaml.jinja")
            elif file == _COMPOSE:
                edit(file, ("services",), f"\n{template('compose.yaml.jinja')}")
                if dbt:
                    edit(file, ("volumes",), f"warehouse_{name}: {{}}\n")
                grpc = f"- grpc_server: {server.format(name=name, key='location_name')}\n"
                found[file] = appended_inside(found[file], ("configs", "workspace", "content"), ("load_from",), grpc)
            elif file == _S3:
                edit(file, ("services",), f"\n{template('compose.s3.yaml.jinja')}")
    except InsertionError as error:
        raise UserError(f"{root / file}: {error}: write it as it was, or add {name} by hand") from None
    return found


def deploy_templates() -> tuple[str, ...]:
    """Return the paths of the templates that `entries_of` reads, and of what says how they are written."""
    names = ("compose.yaml.jinja", "compose.s3.yaml.jinja", "helm.yaml.jinja")
    return (_CONFIG, *(f"{_DEPLOY}/{name}" for name in names))


def _environment(config: str) -> Environment:
    """Return the Jinja that copier uses for the location's folder: both kinds of templates are written alike."""
    options: Mapping[str, str] = yaml.safe_load(config)["_envops"]
    return Environment(undefined=StrictUndefined, autoescape=False, **options)  # type: ignore[arg-type] # noqa: S701


def _text(root: Path, file: str, found: Mapping[str, str]) -> str:
    if file in found:
        return found[file]
    try:
        return (root / file).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{root / file}: missing, and a location is named in it: bring it back") from None
