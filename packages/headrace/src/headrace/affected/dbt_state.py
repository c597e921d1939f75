"""What two dbt manifests say changed, where dbt's own `state:modified` does not: pure comparison."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

Manifest = Mapping[str, Any]

# Configs of nodes, which dbt compares, and what says no more than where files are, which its parser follows. Sources,
# which are compared as they are declared, are not among them.
_COMPARED_BY_DBT = {
    *("models", "seeds", "snapshots", "data_tests", "tests", "unit_tests", "exposures", "metrics"),
    *("semantic-models", "saved-queries", "functions", "groups", "selectors"),
    *("model-paths", "seed-paths", "snapshot-paths", "test-paths", "macro-paths", "analysis-paths", "docs-paths"),
    *("asset-paths", "function-paths", "clean-targets", "target-path", "log-path", "packages-install-path"),
    *("version", "config-version", "require-dbt-version", "restrict-access"),
}
# What a node says beside its text, as it is written: elsewhere, values and names of databases are rendered otherwise.
_BESIDE_TEXT = (
    *("unrendered_config", "columns", "description", "constraints", "group", "access", "alias", "version"),
    *("latest_version", "deprecation_date", "language", "fqn"),
)
_CALL = re.compile(r"\b([A-Za-z_]\w*)\s*\(")
_DISPATCHED = re.compile(r"""\bdispatch\(\s*['"](\w+)['"]""")
_PUTS_NAMES_TOGETHER = re.compile(r"\bcontext\s*(?:\[|\.\s*get\b)|\bdispatch\(\s*[^\s'\"]")
_OF_EVERY_NODE = ("generate_schema_name", "generate_alias_name", "generate_database_name")


def missed(base: Manifest, head: Manifest, changed: Collection[str]) -> set[str]:
    """Return the head's nodes that changed and that `state:modified` leaves out.

    - It compares a seed above 1 MiB by its path alone.
    - It does not see that a `ref` leads elsewhere, as that of a model whose latest version is another one now.
    - It follows the macros that a node calls, not those that dbt calls by their name: materializations, incremental
      strategies, names of schemas.

    Args:
        base: the manifest before.
        head: the manifest now.
        changed: the changed files, relative to the project's folder.
    """
    nodes = _nodes(head)
    before = _nodes(base)
    found = {
        unique_id
        for unique_id, node in nodes.items()
        if unique_id in before
        and (
            _reads(node) != _reads(before[unique_id])
            or (node["resource_type"] == "seed" and node["original_file_path"] in changed)
        )
    }
    return found | below_macros(base, head, changed_macros(base, head)).keys()


def bears_on_every_node(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether two versions of a `dbt_project.yml` differ in what dbt compares for no node, such as `vars`."""
    return any(before.get(key) != after.get(key) for key in (before.keys() | after.keys()) - _COMPARED_BY_DBT)


def all_nodes(manifest: Manifest) -> set[str]:
    """Return every node, source, exposure and unit test."""
    return set(manifest["child_map"])


def with_children(nodes: Iterable[str], manifest: Manifest) -> set[str]:
    """Return nodes with all that depends on them, tests and exposures too."""
    found: set[str] = set()
    waiting = list(nodes)
    while waiting:
        unique_id = waiting.pop()
        if unique_id not in found:
            found.add(unique_id)
            waiting.extend(manifest["child_map"].get(unique_id, ()))
    return found


def _nodes(manifest: Manifest) -> Mapping[str, Mapping[str, Any]]:
    return {**manifest["nodes"], **manifest["exposures"], **manifest["unit_tests"]}


def _reads(node: Mapping[str, Any]) -> Collection[str]:
    return sorted(node.get("depends_on", {}).get("nodes", ()))


def below_macros(base: Manifest, head: Manifest, macros: Iterable[str]) -> Mapping[str, Collection[str]]:
    """Return the head's nodes below macros, before or now, each with those of the macros that it is below.

    Every node, where it is not to be told who calls a macro: dbt's own macros name it, which dbt calls by itself, or a
    text of the project calls by a name that it puts together.
    """
    calls = [_callers(manifest) for manifest in (base, head)]
    every = all_nodes(head)
    found = defaultdict(set)
    for macro in macros:
        callers = {node for called in calls for node in _above(macro, called)}
        nodes = {caller for caller in callers if not caller.startswith("macro.")}
        if not nodes and any(_may_be_called_by_anyone({macro, *callers}, manifest) for manifest in (base, head)):
            nodes = every
        for node in nodes & every:
            found[node].add(macro)
    return found


def changed_macros(base: Manifest, head: Manifest) -> set[str]:
    """Return the macros whose text is another one, with those that are new or gone."""
    texts = [{key: macro["macro_sql"] for key, macro in manifest["macros"].items()} for manifest in (base, head)]
    return {key for key in texts[0].keys() | texts[1].keys() if texts[0].get(key) != texts[1].get(key)}


def told_by_code(nodes: Iterable[str], base: Manifest, head: Manifest, *, modified: Collection[str]) -> set[str]:
    """Return the models and snapshots, of these nodes, of which the code version says all that may have changed.

    They differ in no more than their text, or dbt takes them for unmodified, and a macro has changed. A seed is not
    among them: of one above 1 MiB its manifest has the path alone.

    Args:
        nodes: what may have changed.
        base: the manifest before.
        head: the manifest now.
        modified: what dbt takes for modified.
    """
    before, now = base["nodes"], head["nodes"]
    return {
        unique_id
        for unique_id in nodes
        if unique_id in before
        and unique_id in now
        and now[unique_id]["resource_type"] in ("model", "snapshot")
        and (
            _beside_text(before[unique_id]) == _beside_text(now[unique_id])
            or (unique_id not in modified and _reads(before[unique_id]) == _reads(now[unique_id]))
        )
    }


def _beside_text(node: Mapping[str, Any]) -> tuple[object, ...]:
    return *(node.get(key) for key in _BESIDE_TEXT), _reads(node)


def _may_be_called_by_anyone(macros: Collection[str], manifest: Manifest) -> bool:
    """Return whether macros that no node calls may be called by dbt itself, or by a name that is put together."""
    of_dbt = _of_dbt(manifest)
    names = {name for macro in macros for name in _names(macro)}
    said = re.compile(rf"\b({'|'.join(map(re.escape, names))})\b")
    return any(
        key in macros or said.search(text) if key in of_dbt else _PUTS_NAMES_TOGETHER.search(text)
        for key, text in _texts(manifest).items()
    )


def _of_dbt(manifest: Manifest) -> Collection[str]:
    """Return the macros of dbt and of the adapter."""
    packages = {"dbt", f"dbt_{manifest['metadata']['adapter_type']}"}
    return {key for key, macro in manifest["macros"].items() if key.split(".")[1] in packages}


def _texts(manifest: Manifest) -> Mapping[str, str]:
    """Return the text of each macro and node, with what its config and its test's arguments may call."""
    texts = {key: macro["macro_sql"] for key, macro in manifest["macros"].items()}
    for key, node in _nodes(manifest).items():
        beside = [node.get("unrendered_config"), (node.get("test_metadata") or {}).get("kwargs")]
        texts[key] = " ".join([node.get("raw_code") or "", *(str(each) for each in beside if each)])
    return texts


def _names(macro: str) -> tuple[str, str]:
    name = macro.rpartition(".")[2]
    return name, name.partition("__")[2] or name


def _callers(manifest: Manifest) -> Mapping[str, Collection[str]]:
    """Return for each macro the macros and nodes that call it or name it, or for which dbt calls it.

    dbt notes the calls that it meets while it parses: not those under a condition such as `is_incremental()`.
    """
    by_name = defaultdict(list)
    for key, macro in manifest["macros"].items():
        by_name[macro["name"]].append(key)
    adapter = manifest["metadata"]["adapter_type"]
    callers = defaultdict(set)
    for key, caller in {**manifest["macros"], **_nodes(manifest)}.items():
        for macro in caller.get("depends_on", {}).get("macros", ()):
            callers[macro].add(key)
    for key, node in manifest["nodes"].items():
        for name in _called_for(node["config"], adapter):
            for macro in by_name[name]:
                callers[macro].add(key)
    for macro, key in _named(manifest):
        callers[macro].add(key)
    return callers


def _named(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield each macro of the project with what calls it by its name."""
    macros = defaultdict(set)
    for macro in manifest["macros"].keys() - _of_dbt(manifest):
        for name in _names(macro):
            macros[name].add(macro)
    for key, text in _texts(manifest).items() if macros else ():
        for name in macros.keys() & {*_CALL.findall(text), *_DISPATCHED.findall(text)}:
            yield from ((macro, key) for macro in macros[name] - {key})


def _called_for(config: Mapping[str, Any], adapter: str) -> Iterator[str]:
    """Yield the names of the macros that dbt calls for a node of this config."""
    yield from _OF_EVERY_NODE
    materialized = config.get("materialized")
    yield from (f"materialization_{materialized}_{suffix}" for suffix in (adapter, "default"))
    if materialized == "incremental":
        # https://docs.getdbt.com/docs/build/incremental-strategy#custom-strategies
        yield f"get_incremental_{(config.get('incremental_strategy') or 'default').replace('+', '_')}_sql"
    if materialized == "snapshot":
        yield f"snapshot_{config.get('strategy')}_strategy"


def _above(macro: str, callers: Mapping[str, Collection[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [macro]
    while waiting:
        for caller in callers.get(waiting.pop(), ()):
            if caller not in found:
                found.add(caller)
                waiting.extend([caller] if caller.startswith("macro.") else [])
    return found
