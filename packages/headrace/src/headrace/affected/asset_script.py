"""Prints a code location's assets with their parents, as JSON; run by the location's own interpreter.

Its arguments are those of `contracts/script.py`. A key that the location only reads is among the assets too.

    {"assets": [{"key": "stg_orders", "made": true, "parents": ["raw/orders"], "dbt": "model.jaffle_shop.stg_orders"}]}

`dbt` is the unique id of the node that it is built by, or null.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

# The folder of a script stands first, and its modules would hide the location's.
if sys.path[0] == str(Path(__file__).parent):
    del sys.path[0]

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.contracts.script import Location


def assets(location: Location) -> Mapping[str, Any]:
    """Return the assets of a loaded location, as the module's docstring describes them."""
    nodes = [location.graph.get(key) for key in sorted(location.graph.get_all_asset_keys())]
    return {
        "assets": [
            {
                "key": node.key.to_user_string(),
                "made": node.is_materializable,
                "parents": sorted(key.to_user_string() for key in node.parent_keys),
                "dbt": node.metadata.get("dagster_dbt/unique_id"),
            }
            for node in nodes
        ]
    }


if __name__ == "__main__":
    # The location's environment may lack headrace, so this script is run, not imported.
    runpy.run_path(str(Path(__file__).parents[1] / "contracts" / "script.py"))["main"](assets)
