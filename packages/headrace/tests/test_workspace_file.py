"""`workspace.yaml` is read as Dagster reads it, in every form that Dagster takes."""

from pathlib import Path

import pytest
import yaml
from dagster._cli.api import grpc_command
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, ManagedGrpcPythonEnvCodeLocationOrigin
from dagster._core.workspace.config_schema import WORKSPACE_CONFIG_SCHEMA
from dagster._core.workspace.load import location_origins_from_yaml_paths

from headrace.cli.user_errors import UserError
from headrace.workspace_file import Entry, Kind, parse_workspace_file, read_workspace_file, root_above

FORMS = """
load_from:
  - python_module: short.definitions
  - python_module: {module_name: shop.definitions, location_name: shop}
  - python_module: {module_name: shop.definitions, attribute: defs}
  - python_module: {module_name: other.definitions, executable_path: other/bin/python, working_directory: other}
  - python_module: {module_name: {env: SHOP_MODULE}}
  - python_package: bundle
  - python_package: {package_name: bundle, attribute: defs, location_name: bundled}
  - python_file: jobs/serve.py
  - python_file: {relative_path: jobs/serve.py, attribute: defs}
  - python_file: {relative_path: jobs/serve.py, location_name: filed, working_directory: jobs}
  - autoload_defs_module: auto.defs
  - autoload_defs_module: {module_name: auto.defs, location_name: autoloaded}
  - grpc_server: {host: elsewhere, port: 4000}
  - grpc_server: {socket: /run/shop.sock, location_name: served}
  - grpc_server: {port: {env: SHOP_PORT}, ssl: true, additional_metadata: {team: sales}}
"""


def test_every_form_is_read_as_dagster_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_MODULE", "named.by.variable")
    monkeypatch.setenv("SHOP_PORT", "4266")
    file = tmp_path / "workspace.yaml"
    file.write_text(FORMS)
    monkeypatch.chdir(tmp_path)
    ours = {entry.name: entry for entry in read_workspace_file(tmp_path)}
    theirs = {origin.location_name: origin for origin in location_origins_from_yaml_paths([str(file)])}
    assert list(ours) == list(theirs)
    for name, origin in theirs.items():
        entry = ours[name]
        if isinstance(origin, GrpcServerCodeLocationOrigin):
            server = {"host": origin.host, "port": origin.port, "socket": origin.socket, "ssl": origin.use_ssl}
            assert entry.kind == "grpc_server"
            assert {key: entry.server.get(key) for key in server} == server
            assert entry.server.get("additional_metadata") == (origin.additional_metadata or None)
            continue
        assert isinstance(origin, ManagedGrpcPythonEnvCodeLocationOrigin)
        target = origin.loadable_target_origin
        named = target.module_name or target.package_name or target.autoload_defs_module_name
        assert (entry.module, entry.attribute) == (named, target.attribute)
        assert entry.executable_path == target.executable_path
        if target.python_file:
            assert tmp_path / entry.target == Path(target.python_file)
        # Dagster's own command takes the options under which it is started here.
        assert set(entry.arguments(tmp_path)[::2]) <= {name for option in grpc_command.params for name in option.opts}


def test_dagster_has_no_further_kind() -> None:
    """A kind that Dagster gains is taken here too, or this says so."""
    kinds = WORKSPACE_CONFIG_SCHEMA["load_from"].config_type.inner_type.fields  # type: ignore[attr-defined]
    assert set(kinds) == set(Kind.__args__)  # type: ignore[attr-defined]


def test_what_an_entry_says_of_its_python(tmp_path: Path) -> None:
    def entry(python: str | None) -> Entry:
        return Entry("python_module", "shop", "shop.definitions", executable_path=python)

    assert entry(None).python(tmp_path, "/usr/bin/python3") == "/usr/bin/python3"
    assert entry("venv/bin/python").python(tmp_path, "/usr/bin/python3") == str(tmp_path / "venv/bin/python")
    assert entry("python3.12").python(tmp_path, "/usr/bin/python3") == "python3.12"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("load_from: [", "while parsing a flow node"),
        ("- python_module: shop", "it has no list `load_from`: write one with an entry for each code location"),
        ("load_from: shop", "it has no list `load_from`"),
        ("load_from: [shop]", "load_from[0]: an entry has one key: write one of python_module, python_package, "),
        (
            "load_from: [{python_modul: shop}]",
            "load_from[0]: python_modul is not a kind of code location: write one of",
        ),
        ("load_from: [{python_module: {}}]", "load_from[0].python_module: module_name is missing: write it"),
        ("load_from: [{python_module: [a]}]", "load_from[0].python_module: it is neither a name nor a mapping"),
        ("load_from: [{python_module: {module_name: 3}}]", "module_name is not text: write it in quotes"),
        ("load_from: [{python_module: {module: shop}}]", "module is unknown: write one of module_name, location_name"),
        ("load_from: [{python_module: {module_name: {env: NOPE}}}]", "the environment variable NOPE is not set"),
        ("load_from: [{grpc_server: {host: a}}]", "it has not one of port and socket: write one of them"),
        ("load_from: [{grpc_server: {port: 1, socket: a}}]", "it has not one of port and socket"),
        ("load_from: [{grpc_server: {port: many}}]", "port 'many' is not a number: write one"),
        ("load_from: [{python_module: a}, {python_module: a}]", "two code locations are named a: give one of them"),
    ],
)
def test_what_dagster_would_not_take_is_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_workspace_file(text, "workspace.yaml", {})
    assert error.value.message.startswith("workspace.yaml: ")
    assert message in error.value.message
    assert "\n" not in error.value.message


def test_an_empty_list_has_no_location() -> None:
    assert parse_workspace_file("load_from: []", "workspace.yaml") == []
    assert parse_workspace_file(yaml.safe_dump({}), "workspace.yaml") == []


def test_the_root_is_the_nearest_folder_with_the_file(tmp_path: Path) -> None:
    inner = tmp_path / "inner" / "deep"
    inner.mkdir(parents=True)
    (tmp_path / "uv.lock").touch()
    (tmp_path / "inner/workspace.yaml").touch()
    assert root_above(inner) == tmp_path / "inner"
    assert root_above(tmp_path, ("workspace.yaml", "uv.lock")) == tmp_path
    with pytest.raises(UserError, match=r"holds workspace\.yaml: go to a Headrace workspace"):
        root_above(tmp_path)
