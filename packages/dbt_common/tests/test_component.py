"""The dg component: listed, scaffolded and loaded by dg itself, with the options of `dbt_definitions`."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import dagster as dg
import pytest
import yaml

from dagster_dbt_common import PartitionedDbtProjectComponent, dbt_definitions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

pytestmark = pytest.mark.slow

TYPE = "dagster_dbt_common.PartitionedDbtProjectComponent"

FILES = {
    "pyproject.toml": """
        [project]
        name = "plant"
        version = "0"
        [tool.dg]
        directory_type = "project"
        [tool.dg.project]
        root_module = "plant"
    """,
    "src/plant/__init__.py": "",
    "src/plant/defs/__init__.py": "",
    "src/plant/definitions.py": """
        from pathlib import Path

        import dagster as dg

        @dg.definitions
        def defs() -> dg.Definitions:
            return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    """,
    "src/plant/keys.py": """
        from dagster_dbt_common import PartitionedDbtTranslator

        class PlantTranslator(PartitionedDbtTranslator):
            def get_group_name(self, dbt_resource_props):
                return "plant"
    """,
}


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dg project without definitions."""
    root = tmp_path_factory.mktemp("plant")
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(dedent(text))
    return root


@pytest.fixture(scope="module")
def shop(minimal_root: Path, minimal_definitions: dg.Definitions) -> Path:
    """Return a dbt project that was parsed before."""
    assert minimal_definitions.assets
    return minimal_root / "project"


@pytest.fixture
def run_dg(plant: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).parent / "dg", *arguments],
            cwd=plant,
            env={
                **os.environ,
                "HOME": str(tmp_path),
                "DAGSTER_HOME": "",
                "DAGSTER_DISABLE_TELEMETRY": "1",
                "DG_PROJECT_PYTHON_EXECUTABLE": sys.executable,
                "PYTHONPATH": str(plant / "src"),
                "COLUMNS": "300",
            },
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def load(root: Path, attributes: Mapping[str, object], monkeypatch: pytest.MonkeyPatch) -> dg.Definitions:
    """Load a `defs.yaml` of the component, as a code location does."""
    monkeypatch.syspath_prepend(str(root / "src"))
    document = {"type": TYPE, "attributes": attributes}
    (root / "src/plant/defs/shop").mkdir(exist_ok=True)
    (root / "src/plant/defs/shop/defs.yaml").write_text(yaml.safe_dump(document))
    return dg.load_from_defs_folder(path_within_project=root / "src" / "plant")


def test_its_attributes_are_the_options_of_the_call() -> None:
    parameters = inspect.signature(dbt_definitions).parameters
    attributes = {field.name: field for field in fields(PartitionedDbtProjectComponent)}
    assert list(attributes) == list(parameters)
    defaults = {name: one.default for name, one in parameters.items() if one.default is not inspect.Parameter.empty}
    component = PartitionedDbtProjectComponent(project_dir="shop")
    assert {
        name: type(defaults[name])(getattr(component, name)) if name == "dbt_flags" else getattr(component, name)
        for name in defaults
    } == defaults


@pytest.mark.slow
def test_dg_lists_it(run_dg: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    listed = run_dg("list", "components", "--json")
    assert listed.returncode == 0, listed.stderr
    assert f'"{TYPE}"' in listed.stdout


@pytest.mark.slow
def test_scaffolded_defs_load(plant: Path, shop: Path, run_dg: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    path = os.path.relpath(shop, plant)
    scaffolded = run_dg("scaffold", "defs", TYPE, "fresh", "--project-path", path)
    assert scaffolded.returncode == 0, scaffolded.stdout + scaffolded.stderr
    folder = plant / "src/plant/defs/fresh"
    try:
        written = yaml.safe_load((folder / "defs.yaml").read_text())
        assert written == {"type": TYPE, "attributes": {"project_dir": f"{{{{ project_root }}}}/{path}"}}
        listed = run_dg("list", "defs", "--json")
        assert listed.returncode == 0, listed.stderr
        assert '"events_daily"' in listed.stdout
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
def test_a_wrong_path_is_one_line_that_says_what_to_give(
    plant: Path, run_dg: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    refused = run_dg("scaffold", "defs", TYPE, "nowhere", "--project-path", "no/such/folder")
    assert refused.returncode != 0
    said = [line for line in (refused.stdout + refused.stderr).splitlines() if "dbt_project.yml" in line]
    assert said[-1].endswith(
        "--project-path no/such/folder: there is no dbt_project.yml: give the folder of a dbt project"
    )
    assert not (plant / "src/plant/defs/nowhere/defs.yaml").exists()


def test_attributes_reach_the_definitions(plant: Path, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    definitions = load(
        plant,
        {
            "project_dir": os.path.relpath(shop, plant / "src" / "plant" / "defs" / "shop"),
            "name": "boats",
            "translator": "plant.keys.PlantTranslator",
            "automation": "{{ automation_condition.eager() }}",
            "dbt_flags": ["--fail-fast"],
        },
        monkeypatch,
    )
    assets = [asset for asset in definitions.assets or () if isinstance(asset, dg.AssetsDefinition)]
    assert {asset.op.name for asset in assets} == {"boats", "boats_daily", "boats_hourly"}
    specs = {spec.key.to_user_string(): spec for asset in assets for spec in asset.specs}
    assert specs["events_daily"].group_name == "plant"
    assert specs["events_daily"].automation_condition == dg.AutomationCondition.eager()
    assert specs["store_names"].automation_condition is None, "a condition of one's own is for models"
    assert list(definitions.resources or {}) == ["boats"]


def test_automation_is_a_word_too(plant: Path, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    definitions = load(plant, {"project_dir": str(shop), "automation": "eager"}, monkeypatch)
    labels = {spec.automation_condition.get_label() for spec in _specs(definitions) if spec.automation_condition}
    assert labels == {"eager"}


def _specs(definitions: dg.Definitions) -> list[dg.AssetSpec]:
    assets = [asset for asset in definitions.assets or () if isinstance(asset, dg.AssetsDefinition)]
    return [spec for asset in assets for spec in asset.specs]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            {"project_dir": "{{ project_root }}/nowhere"},
            "there is no dbt_project.yml: give the folder of a dbt project",
        ),
        ({"select": "tag:x"}, "Extra inputs are not permitted"),
        ({"translator": "plant.keys.NoSuch"}, "No module named 'plant.keys.NoSuch'"),
        ({"translator": "pathlib.Path"}, "PartitionedDbtTranslator"),
    ],
)
def test_a_wrong_attribute_is_refused(
    plant: Path, shop: Path, monkeypatch: pytest.MonkeyPatch, attributes: Mapping[str, object], message: str
) -> None:
    with pytest.raises(Exception, match=r"defs\.yaml") as raised:
        load(plant, {"project_dir": str(shop), **attributes}, monkeypatch)
    assert message in first_cause(raised.value)


def first_cause(error: BaseException) -> str:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return str(error)
