"""DuckDB's extensions out of their packages: `duckdb-extension-httpfs` of PyPI is what DuckDB's own server has, signed.

A target that names extensions, and the folder of them, then needs no network where it connects:

    config_options: {extension_directory: "{{ env_var('EXTENSIONS') }}", autoinstall_known_extensions: false}
    extensions: [httpfs, aws]
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from dagster_dbt import DbtProject
from jinja2 import TemplateError

from dagster_dbt_common.errors import DbtConfigError
from dagster_dbt_common.project.duckdb_file import rendered, target_output

# In a process of its own: runs fork this one, which a connection would give threads. Several may do it at once, since a
# file is replaced as a whole; DuckDB checks its signature when it loads it.
_INSTALL = (
    "import duckdb, sys; duckdb.connect(config={'extension_directory': sys.argv[1]}).install_extension(sys.argv[2])"
)


def install_packaged_extensions(
    project: DbtProject, manifest: Mapping[str, Any], environment: Mapping[str, str] = os.environ
) -> None:
    """Copy the extensions that a project's target names to where DuckDB looks for them, from packages that have them.

    What is there is left alone, and so is what no package has: DuckDB asks its own server for that.

    Args:
        project: the prepared project.
        manifest: its manifest.
        environment: the variables that the profile reads.

    Raises:
        DbtConfigError: a package is made for another version of DuckDB, or the folder cannot be written.
    """
    output = target_output(project, manifest, environment)
    try:
        folder = rendered((output.get("config_options") or {}).get("extension_directory") or "", environment)
    except (KeyError, TemplateError, AttributeError):
        return
    for name in output.get("extensions") or () if folder else ():
        if not isinstance(name, str):
            continue  # of a repository that the profile names
        package = f"duckdb-extension-{name.replace('_', '-')}"
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
        if not [*Path(folder).glob(f"v{version}/*/{name}.duckdb_extension")]:
            _install(name, package, version, Path(folder))


def _install(name: str, package: str, version: str, folder: Path) -> None:
    if version != (own := metadata.version("duckdb")):
        raise DbtConfigError(f"{package} {version} does not fit duckdb {own}: install equal versions of both")
    file = resources.files(f"duckdb_extension_{name}") / "extensions" / f"v{version}" / f"{name}.duckdb_extension"
    with resources.as_file(file) as path:
        command = [sys.executable, "-c", _INSTALL, str(folder), str(path)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - this interpreter
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise DbtConfigError(f"DuckDB's extension {name} cannot be put into {folder}: {said}")
