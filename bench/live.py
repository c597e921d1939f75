"""A process that loads definitions once and builds the partitions that it reads from its input, one a line."""

import importlib
import sys
import time

import dagster as dg

from bench.child import say
from bench.generate import DAILY


def main(module: str) -> None:
    """Build each day of standard input and say how many seconds it took."""
    defs: dg.Definitions = importlib.import_module(module).defs
    job = defs.resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey(name) for name in DAILY]
    with dg.DagsterInstance.get() as instance:
        say({"ready": True})
        for line in sys.stdin:
            start = time.perf_counter()
            job.execute_in_process(instance=instance, asset_selection=keys, partition_key=line.strip())
            say({"seconds": time.perf_counter() - start})


if __name__ == "__main__":
    main(sys.argv[1])
