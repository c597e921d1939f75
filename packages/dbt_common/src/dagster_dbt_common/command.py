"""The command `dagster-dbt-common`: packages a dbt project for a location that never parses."""

import argparse
import sys

from dagster_dbt_common.errors import DbtConfigError, StaleManifestError
from dagster_dbt_common.project import package_project


def main() -> None:
    """Run the command; a failure is one line on standard error and exit code 1."""
    parser = argparse.ArgumentParser(prog="dagster-dbt-common", description=__doc__)
    verbs = parser.add_subparsers(required=True)
    package = verbs.add_parser("package", help="copy a dbt project with its manifest")
    package.add_argument("project", help="the folder of dbt_project.yml")
    package.add_argument("destination", help="the folder of the copy; what is there is replaced")
    package.add_argument("--profile", help="a profile other than the project's")
    package.add_argument("--target", help="a target other than the profile's default")
    options = parser.parse_args()
    try:
        packaged = package_project(options.project, options.destination, profile=options.profile, target=options.target)
    except (DbtConfigError, StaleManifestError) as error:
        sys.exit(f"dagster-dbt-common: {error}")
    sys.stdout.write(f"packaged {packaged.name} in {packaged.project_dir}\n")
