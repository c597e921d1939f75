"""Two locations on one DuckDB file are told, by the file."""

from headrace.contracts.check import check_files
from headrace.locations.duckdb_files import METADATA, SharedFile, shared_files


def test_a_file_of_two_locations_is_told_with_both_in_order() -> None:
    written = {"shop": ["/w.duckdb", "/w.duckdb"], "raw": [], "bank": ["/b.duckdb", "/w.duckdb"]}
    assert shared_files(written) == [SharedFile("/w.duckdb", ["bank", "shop"])]
    assert shared_files({"shop": ["/w.duckdb"], "bank": ["/b.duckdb"]}) == []


def test_the_finding_is_one_line_with_what_to_do() -> None:
    (finding,) = check_files(shared_files({"shop": ["/w.duckdb"], "bank": ["/w.duckdb"]}))
    assert (finding.kind, finding.producer, finding.consumer) == ("one DuckDB file", "bank", "shop")
    assert str(finding) == (
        "/w.duckdb: the dbt projects of bank and shop write this DuckDB file, and such a file has one writer: give "
        "each a file of its own, by what `path` in its profiles.yml reads, or both a warehouse with several writers: "
        "docs/linking.md"
    )


def test_the_metadata_is_what_the_script_reads_in_the_locations_environment() -> None:
    from headrace.locations import script  # noqa: PLC0415 - it is a script

    assert script._DUCKDB_FILE == METADATA
