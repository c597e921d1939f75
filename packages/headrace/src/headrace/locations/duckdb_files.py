"""Two code locations that write one DuckDB file: such a file has one writer."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

METADATA = "dagster_dbt_common/duckdb_file"
"""The metadata by which `dagster-dbt-common` says in which file an asset's table is."""


@dataclass(frozen=True)
class SharedFile:
    """A DuckDB file that several locations write.

    Args:
        path: the file.
        locations: their names, in order.
    """

    path: str
    locations: Sequence[str]

    @property
    def problem(self) -> str:
        """Return what is wrong."""
        names = " and ".join(self.locations)
        return f"the dbt projects of {names} write this DuckDB file, and such a file has one writer"

    @property
    def action(self) -> str:
        """Return what to do about it."""
        return (
            "give each a file of its own, by what `path` in its profiles.yml reads, or both a warehouse with several "
            "writers: docs/linking.md"
        )

    def __str__(self) -> str:
        """Return the one line that a user reads."""
        return f"{self.path}: {self.problem}: {self.action}"


def shared_files(written: Mapping[str, Iterable[str]]) -> Sequence[SharedFile]:
    """Return the files that more than one location writes.

    Args:
        written: the files that each location writes, by its name.
    """
    writers: dict[str, list[str]] = defaultdict(list)
    for location, files in written.items():
        for file in set(files):
            writers[file].append(location)
    return [SharedFile(path, sorted(locations)) for path, locations in sorted(writers.items()) if len(locations) > 1]
