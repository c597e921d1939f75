"""Load a module's Dagster definitions as a code server does: import it, and resolve every asset and job."""

import importlib
import sys

import dagster as dg

if __name__ == "__main__":
    dg.Definitions.validate_loadable(importlib.import_module(sys.argv[1]).defs)
