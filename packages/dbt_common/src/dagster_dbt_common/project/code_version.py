"""What a dbt node computes, as a hash: its code version in Dagster.

dagster-dbt hashes the node's own text (https://github.com/dagster-io/dagster/issues/22566). A macro that the model
calls, an ephemeral model that is part of its SQL, or a variable then changes the rows and no version, and a comment
changes the version and no rows. Here the version is of all that goes into the rows, from the manifest alone: nothing
is compiled, and no connection is needed. The window is no part of it, nor are the macros of dbt, of its adapter and of
this package: an upgrade of those rebuilds nothing.

It is written behind dagster-dbt's own, as `TEXT+2:COMPUTES+COMPUTES`: by the form of now, and by the one before it, in
which a former release wrote it. What both have is compared. What was built before there was any has the first part
alone, and then the texts are compared: an upgrade to this rebuilds nothing either.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import defaultdict
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dagster_dbt_common.project.code_version_1 import normalized_1
from dagster_dbt_common.project.fingerprint import MACROS_DIR
from dagster_dbt_common.project.model_text import (
    canonical,
    config_calls,
    may_make_strings,
    normalized,
    without_config,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

_WINDOW = {"min_date", "max_date", "window_timezone"}
# How a hash is made. One more wherever what is hashed changes; the one before it stays, for what was built with it.
_FORM = 2
# Dialects whose keywords are reserved: https://duckdb.org/docs/stable/sql/keywords_and_identifiers
_RESERVES_KEYWORDS = {"duckdb", "postgres"}
# Of a node's config, what shapes its rows. What only says when or where they are built does not.
_SHAPING = (
    *("materialized", "incremental_strategy", "incremental_predicates", "event_time", "unique_key", "sql_header"),
    *("pre-hook", "post-hook", "column_types", "delimiter", "quote_columns", "strategy", "updated_at", "check_cols"),
    *("hard_deletes", "invalidate_hard_deletes", "dbt_valid_to_current", "snapshot_meta_column_names"),
)
_READS_CONFIG = re.compile(r"\bconfig\s*(?:\[|\.\s*(?:get|require|meta))|\bmodel\s*(?:\[|\.)")
_CALL = re.compile(r"\b([A-Za-z_]\w*)\s*\(")
_DISPATCHED = re.compile(r"""\bdispatch\(\s*['"](\w+)['"]""")
_VAR = re.compile(r"""\bvar\(\s*['"](\w+)['"]""")
_ENV_VAR = re.compile(r"""\benv_var\(\s*['"](\w+)['"]""")


class CodeVersions:
    """The versions of a project's nodes.

    Args:
        manifest: dbt's manifest.
        variables: the project's variables, as `dbt_project.yml` has them.
        environment: what `env_var` reads.
    """

    def __init__(
        self,
        manifest: Mapping[str, Any],
        variables: Mapping[str, Any],
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._functions: Mapping[str, Mapping[str, Any]] = manifest.get("functions", {})
        self._nodes: Mapping[str, Mapping[str, Any]] = {**manifest["nodes"], **self._functions}
        self._macros: Mapping[str, Mapping[str, Any]] = manifest.get("macros", {})
        adapter = manifest["metadata"].get("adapter_type")
        self._not_counted = {"dbt", f"dbt_{adapter}"}
        self._of_model = canonical if adapter in _RESERVES_KEYWORDS else normalized
        self._variables = variables
        self._environment = environment
        self._known: dict[tuple[str, int], str] = {}

    def of(self, unique_id: str) -> str:
        """Return a hash of what a node computes, by each form: 16 hex digits, and before those of now `2:`."""
        return f"{_FORM}:{self._hash(unique_id, _FORM)}+{self._hash(unique_id, _FORM - 1)}"

    def macros(self, unique_id: str) -> set[str]:
        """Return the macros whose text is part of a node's version."""
        props = self._nodes[unique_id]
        own = set(self._called(props, self._own(props, _FORM)))
        return own.union(*(self.macros(parent) for parent in self._parts(props)))

    def config_calls(self, unique_id: str) -> Sequence[str]:
        """Return a node's calls of `config(...)` as they are written, and those of what is part of it."""
        props = self._nodes[unique_id]
        of_parts = [call for parent in self._parts(props) for call in self.config_calls(parent)]
        return [*config_calls(props.get("raw_code") or ""), *of_parts]

    def _hash(self, unique_id: str, form: int) -> str:
        if (unique_id, form) not in self._known:
            props = self._nodes[unique_id]
            own = self._own(props, form)
            macros = sorted(self._called(props, own))
            texts = [own, *self._of_macros([self._macros[macro]["macro_sql"] for macro in macros], props, form)]
            content = [
                texts,
                macros,
                self._config(props, texts, form),
                props.get("checksum", {}).get("checksum") if props["resource_type"] == "seed" else None,
                sorted(self._values(texts, props["package_name"]).items()),
                [self._hash(parent, form) for parent in self._parts(props)],
            ]
            digest = hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()
            self._known[unique_id, form] = digest[:16]
        return self._known[unique_id, form]

    def _own(self, props: Mapping[str, Any], form: int) -> str:
        code: str = props.get("raw_code") or ""
        if props.get("language") == "python":
            return code
        return (normalized_1 if form == 1 else self._of_model)(without_config(code))

    @staticmethod
    def _of_macros(texts: Sequence[str], props: Mapping[str, Any], form: int) -> Sequence[str]:
        if form == 1:
            return [normalized_1(text) for text in texts]
        # What a macro writes into a string counts with each blank.
        if any(map(may_make_strings, (props.get("raw_code") or "", *texts))):
            return [text.strip() for text in texts]
        return [normalized(text) for text in texts]

    def _parts(self, props: Mapping[str, Any]) -> Iterator[str]:
        """Yield the ephemeral models that are part of a node's SQL, and the functions that it calls."""
        for parent in sorted(props.get("depends_on", {}).get("nodes", ())):
            above = self._nodes.get(parent, {})
            if parent in self._functions or above.get("config", {}).get("materialized") == "ephemeral":
                yield parent

    @staticmethod
    def _config(props: Mapping[str, Any], texts: Sequence[str], form: int) -> Mapping[str, Any]:
        config = props["config"]
        found = {key: config[key] for key in _SHAPING if config.get(key) not in (None, [], {}, "")}
        of_hook = normalized_1 if form == 1 else normalized
        for key in ("pre-hook", "post-hook"):
            if key in found:
                found[key] = [of_hook(hook["sql"]) if isinstance(hook, dict) else hook for hook in found[key]]
        if form > 1 and any(map(_READS_CONFIG.search, texts)):
            found["read"] = json.dumps(config, sort_keys=True, default=str)
        if (config.get("contract") or {}).get("enforced"):
            columns = props.get("columns", {}).values()
            found["columns"] = sorted((column["name"], column.get("data_type")) for column in columns)
        return {**found, "relation": [props.get("schema"), props.get("alias")]}

    def _called(self, props: Mapping[str, Any], code: str) -> Collection[str]:
        """Return the project's own macros that a node calls, also under a condition, by a name of dbt's, or by another.

        dbt notes those that it calls while it parses, and all that a macro may call.
        """
        config = props["config"]
        strategy = str(config.get("incremental_strategy") or "").replace("+", "_")
        waiting = [*props.get("depends_on", {}).get("macros", ()), *self._named(code)]
        waiting += self._by_name.get(f"get_incremental_{strategy}_sql", ())
        materialization = f"materialization_{config.get('materialized')}_"
        waiting += [each for name, ids in self._by_name.items() if name.startswith(materialization) for each in ids]
        found: set[str] = set()
        while waiting:
            macro = waiting.pop()
            if macro not in found and self._counts(macro):
                found.add(macro)
                text = self._macros[macro]["macro_sql"]
                waiting += [*self._macros[macro]["depends_on"]["macros"], *self._named(text)]
        return found

    def _named(self, code: str) -> Sequence[str]:
        if not self._by_name:
            return []
        names = {*_CALL.findall(code), *_DISPATCHED.findall(code)} & self._by_name.keys()
        return [macro for name in names for macro in self._by_name[name]]

    @cached_property
    def _by_name(self) -> Mapping[str, Sequence[str]]:
        """The project's own macros by the names by which they are called; `default__x` is called by `x`."""
        found: dict[str, list[str]] = defaultdict(list)
        for macro in self._macros:
            if self._counts(macro):
                name = macro.rpartition(".")[2]
                for called in {name, name.partition("__")[2] or name}:
                    found[called].append(macro)
        return found

    def _counts(self, macro: str) -> bool:
        props = self._macros.get(macro)
        if props is None or props["package_name"] in self._not_counted:
            return False
        file = Path(props.get("original_file_path") or "")
        return not (file.parts[-3:-1] == MACROS_DIR.parts[-2:] and (MACROS_DIR / file.name).is_file())

    def _values(self, texts: Sequence[str], package: str) -> Mapping[str, str]:
        text = "\n".join(texts)
        scoped = self._variables.get(package)
        variables = {**self._variables, **(scoped if isinstance(scoped, dict) else {})}
        found = {f"var {name}": json.dumps(variables.get(name), default=str) for name in _VAR.findall(text)}
        found |= {f"env_var {name}": self._environment.get(name, "") for name in _ENV_VAR.findall(text)}
        return {name: value for name, value in found.items() if name.partition(" ")[2] not in _WINDOW}


def project_variables(project_dir: Path, flags: Sequence[str] = ()) -> Mapping[str, Any]:
    """Return the variables of a dbt project, and those that flags of dbt set.

    Args:
        project_dir: the folder of `dbt_project.yml`.
        flags: flags of each `dbt build`.
    """
    project = yaml.safe_load((project_dir / "dbt_project.yml").read_text(encoding="utf-8")) or {}
    said = [following for flag, following in pairwise(flags) if flag == "--vars"]
    more = yaml.safe_load(said[-1]) if said else None
    return {**(project.get("vars") or {}), **(more if isinstance(more, dict) else {})}
