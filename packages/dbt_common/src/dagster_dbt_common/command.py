"""The command `dagster-dbt-common`: packages a dbt project for a location that never parses, and proves a target."""

import argparse
import json
import os
import sys
from contextlib import closing
from pathlib import Path

from dagster_dbt_common.errors import DbtConfigError, StaleManifestError
from dagster_dbt_common.project.fingerprint import MACROS_VARIABLE
from dagster_dbt_common.project.prepared import package_project, packaged_fingerprint
from dagster_dbt_common.proofs.prove import prove


def main() -> None:
    """Run the command; a failure is one line on standard error and exit code 1."""
    parser = argparse.ArgumentParser(prog="dagster-dbt-common", description=__doc__)
    verbs = parser.add_subparsers(required=True)
    proved = verbs.add_parser("prove", help="build throwaway models in a project's target, and compare their rows")
    proved.add_argument("project", help="the folder of dbt_project.yml")
    proved.add_argument("--profile", help="a profile other than the project's")
    proved.add_argument("--target", help="a target other than the profile's default")
    proved.set_defaults(verb=_prove)
    package = verbs.add_parser("package", help="copy a dbt project with its manifest")
    package.add_argument("project", help="the folder of dbt_project.yml")
    package.add_argument("destination", help="the folder of the copy; its content is replaced")
    package.add_argument("--profile", help="a profile other than the project's")
    package.add_argument("--target", help="a target other than the profile's default")
    package.add_argument("--format", choices=["text", "json"], default="text", help="output format")
    package.set_defaults(verb=_package)
    options = parser.parse_args()
    options.verb(options)


def _prove(options: argparse.Namespace) -> None:
    # dbt writes to standard output what is a run's log elsewhere.
    told = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    wrong = 0
    try:
        with closing(prove(options.project, profile=options.profile, target=options.target)) as proofs:
            for model, way, says in proofs:
                told.write(f"{model}, built {way}: {says or 'equal'}\n")
                told.flush()
                wrong += bool(says)
    except (DbtConfigError, StaleManifestError) as error:
        sys.exit(f"dagster-dbt-common: {error}")
    except SystemExit:
        sys.stderr.write("dagster-dbt-common: ended by a signal: what the proofs had made is dropped\n")
        raise
    if wrong:
        sys.exit(f"dagster-dbt-common: {wrong} of them differ from a full build")


def _package(options: argparse.Namespace) -> None:
    try:
        packaged = package_project(options.project, options.destination, profile=options.profile, target=options.target)
    except (DbtConfigError, StaleManifestError) as error:
        sys.exit(f"dagster-dbt-common: {error}")
    fingerprint = packaged_fingerprint(Path(packaged.project_dir))
    if options.format == "json" and fingerprint:
        # What the manifest has to fit where it runs; the macros are the package's own there.
        variables = sorted(fingerprint.variables.keys() - {MACROS_VARIABLE})
        sys.stdout.write(json.dumps({"project": packaged.name, "variables": variables}) + "\n")
        return
    sys.stdout.write(f"packaged {packaged.name} in {packaged.project_dir}\n")
