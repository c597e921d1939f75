"""What a dbt project reads of others: each of its sources as an external asset."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from dagster import AssetKey, AssetSpec, BetaWarning, CodeReferencesMetadataValue, LocalFileCodeReference

from dagster_dbt_common.errors import config_error
from dagster_dbt_common.partitions.groups import PartitionGroup, PartitionPlan
from dagster_dbt_common.project.node_config import dagster_meta

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dagster_dbt import DbtProject

    from dagster_dbt_common.assets.translator import PartitionedDbtTranslator

FRESHNESS_KEY = "dbt/freshness"
"""The metadata key of a source's `freshness`, as dbt writes it: `{"warn_after": {"count": 1, "period": "day"}}`."""

LOADED_AT_FIELD_KEY = "dbt/loaded_at_field"
"""The metadata key of the column by which dbt measures a source's freshness."""

LOADER_KEY = "loader"
"""The metadata key of a source's `loader`: what writes it, where that is no code location."""

_CODE_REFERENCES = "dagster/code_references"
_DAGSTER_DBT = "dagster_dbt/"


def source_specs(
    project: DbtProject, plan: PartitionPlan, translator: type[PartitionedDbtTranslator]
) -> Sequence[AssetSpec]:
    """Return an external asset for each source that a model, a seed, a snapshot or a test reads.

    Where another code location materializes the key, Dagster makes one asset of both, and what that location says of
    it wins. What stands here is what this project expects of it: columns with their types, partitions where the
    source's `meta.dagster.partitions` says them, and dbt's `freshness`, `loaded_at_field` and `loader` as metadata. The
    place in the YAML file is the asset's code reference. Several sources with one
    `meta.dagster.asset_key` are one asset.

    A location can define a key once. A source that an asset of the same location makes says so in its config, as
    `meta: {dagster: {external: false}}`, and is left out.

    Args:
        project: the prepared dbt project.
        plan: its partition plan.
        translator: what says the keys and the specs.

    Raises:
        DbtConfigError: `external` is neither true nor false, or two sources of one asset have other partitions.
    """
    describe = translator(plan, PartitionGroup("sources", None, frozenset(), frozenset()))
    specs: dict[AssetKey, AssetSpec] = {}
    lines = _Lines(Path(project.project_dir))
    for unique_id, props in sorted(plan.manifest["sources"].items()):
        readers = plan.manifest["child_map"].get(unique_id, ())
        if _is_external(props) and any(reader in plan.manifest["nodes"] for reader in readers):
            spec = describe.get_asset_spec(plan.manifest, unique_id, project)
            config = plan.configs.get(unique_id)
            expected = spec.replace_attributes(
                # dagster-dbt's own entries are of the process, not of the data.
                metadata={key: value for key, value in spec.metadata.items() if not key.startswith(_DAGSTER_DBT)}
                | {_CODE_REFERENCES: lines.reference(props), **_expectations(props)},
                partitions_def=config.definition() if config else None,
            )
            specs[spec.key] = _both(specs[spec.key], expected, props) if spec.key in specs else expected
    return list(specs.values())


def _both(one: AssetSpec, other: AssetSpec, props: Mapping[str, Any]) -> AssetSpec:
    """Return one asset that several sources are tables of, as one sync of a loader makes them.

    It has the columns of none.

    Args:
        one: what the sources before expect.
        other: what another one expects.
        props: that source.
    """
    if one.partitions_def != other.partitions_def:
        raise config_error(
            props,
            "meta.dagster.partitions",
            f"other sources of the asset {one.key.to_user_string()} have other partitions: say the same at each",
        )
    references = [reference for each in (one, other) for reference in each.metadata[_CODE_REFERENCES].code_references]
    metadata = {key: value for key, value in one.metadata.items() if other.metadata.get(key) == value}
    with _without_beta_warnings():
        places = CodeReferencesMetadataValue(code_references=references)
    return one.replace_attributes(
        description="\n\n".join(filter(None, (one.description, other.description))) or None,
        metadata={**metadata, _CODE_REFERENCES: places},
    )


def _is_external(props: Mapping[str, Any]) -> bool:
    choice = dagster_meta(props).get("external", True)
    if not isinstance(choice, bool):
        raise config_error(props, "meta.dagster.external", f"{choice!r} is neither true nor false")
    return choice


def _expectations(props: Mapping[str, Any]) -> Mapping[str, Any]:
    said = {
        FRESHNESS_KEY: freshness_of(props),
        LOADED_AT_FIELD_KEY: props.get("loaded_at_field"),
        LOADER_KEY: props.get("loader"),
    }
    return {key: value for key, value in said.items() if value}


def freshness_of(props: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the thresholds that a source sets, and its filter; dbt writes those that it does not set as nulls."""
    freshness = props.get("freshness") or {}
    return {
        name: value
        for name, value in freshness.items()
        if value and (not isinstance(value, dict) or value.get("count") is not None)
    }


@contextmanager
def _without_beta_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BetaWarning)
        yield


class _Lines:
    """Where the sources stand in the project's YAML files; dbt's manifest knows the files only."""

    def __init__(self, project_dir: Path) -> None:
        self._project_dir = project_dir
        self._files: dict[Path, Mapping[tuple[str, str], int]] = {}

    def reference(self, props: Mapping[str, Any]) -> CodeReferencesMetadataValue:
        """Return the place of a source: its file, and its line where the file is there."""
        file = self._project_dir / props["original_file_path"]
        if file not in self._files:
            # A source of a dbt package has its path within the package.
            self._files[file] = _lines(file.read_text(encoding="utf-8")) if file.is_file() else {}
        line = self._files[file].get((props["source_name"], props["name"]))
        with _without_beta_warnings():
            place = LocalFileCodeReference(file_path=str(file), line_number=line, label="dbt source")
            return CodeReferencesMetadataValue(code_references=[place])


def _lines(text: str) -> Mapping[tuple[str, str], int]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return {
        (_scalar(source, "name"), _scalar(table, "name")): table.start_mark.line + 1
        for source in _children(yaml.compose(text, Loader=loader), "sources")
        for table in _children(source, "tables")
    }


def _children(node: yaml.Node | None, key: str) -> Sequence[yaml.Node]:
    value = _value(node, key)
    return value.value if isinstance(value, yaml.SequenceNode) else ()


def _scalar(node: yaml.Node, key: str) -> str:
    value = _value(node, key)
    return str(value.value) if value else ""


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    """Return what a mapping has under a key; dbt has read the file before, so another shape is only not ours."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)
