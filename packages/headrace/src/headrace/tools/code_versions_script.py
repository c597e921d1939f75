"""Says which nodes of a dbt project compute in two manifests what they did, by their code versions in Dagster.

It is run by the interpreter of dbt, in the environment that dbt gets. Standard input and the file that is the one
argument:

    {"manifests": ["/tmp/before/manifest.json", "/tmp/now/manifest.json"], "project": "dbt", "nodes": ["model.shop.a"]}
    {"model.shop.a": ["macro.shop.cents"]}

The macros of a node are those whose text is part of its version; those of dbt and of dagster-dbt-common are not. A node
whose calls of `config(...)` are written otherwise is left out: another target may render them otherwise. Where this
interpreter has no dagster-dbt-common, nothing is written and the exit code is 3.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

# The folder of a script stands first, and its modules would hide dbt's.
if __name__ == "__main__" and sys.path[0] == str(Path(__file__).parent):
    del sys.path[0]

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_CODE_VERSIONS = 3


def compare(asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the answer, as the module's docstring describes it."""
    gc.disable()  # the process is short, and its imports are many
    of_location = importlib.import_module("dagster_dbt_common.project.code_version")  # headrace's does without
    variables = of_location.project_variables(Path(asked["project"]))
    manifests = [json.loads(Path(path).read_text(encoding="utf-8")) for path in asked["manifests"]]
    before, now = (of_location.CodeVersions(manifest, variables) for manifest in manifests)
    return {
        node: sorted(before.macros(node) | now.macros(node))
        for node in asked["nodes"]
        if _newest(before.of(node)) == _newest(now.of(node)) and before.config_calls(node) == now.config_calls(node)
    }


def _newest(version: str) -> str:
    """Return the form of now, of those that a version has."""
    return version.partition("+")[0]


if __name__ == "__main__":
    try:
        answer = compare(json.load(sys.stdin))
    except ModuleNotFoundError:
        sys.exit(NO_CODE_VERSIONS)
    Path(sys.argv[1]).write_text(json.dumps(answer), encoding="utf-8")
