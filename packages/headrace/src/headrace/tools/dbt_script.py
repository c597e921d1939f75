"""Runs commands of dbt one after the other in one process, until one fails; run by dbt's own interpreter.

A process of dbt takes two seconds to start and two more at its first parse. Standard input has the commands, and the
file that is the one argument gets what came of those that ran:

    [{"arguments": ["parse", "--target-path", "/tmp/before"], "folder": "dbt", "environment": {"HOME": "/root"}}]
    [{"failed": null, or dbt's message, "result": the lines of `dbt ls`, or null}]

Where this interpreter has no dbt, nothing is written and the exit code is 3.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

# The folder of a script stands first, and its modules would hide dbt's.
if __name__ == "__main__" and sys.path[0] == str(Path(__file__).parent):
    del sys.path[0]

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NO_DBT = 3


def run(commands: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Run the commands, and return what came of them, as the module's docstring describes it."""
    # As `long_lived_imports` of headrace does, which may not be here.
    gc.disable()
    from dbt.cli.main import dbtRunner

    gc.freeze()
    gc.enable()
    done = []
    for command in commands:
        os.chdir(command["folder"])
        os.environ.clear()
        os.environ.update(command["environment"])
        result = dbtRunner().invoke(command["arguments"])
        said = None if result.success else str(result.exception or "it gave no reason")
        done.append({"failed": said, "result": result.result if isinstance(result.result, list) else None})
        if said is not None:
            break
    return done


if __name__ == "__main__":
    try:
        results = run(json.load(sys.stdin))
    except ModuleNotFoundError:
        sys.exit(NO_DBT)
    Path(sys.argv[1]).write_text(json.dumps(results), encoding="utf-8")
