"""The README of dagster-dbt-common has the outcome of the matrix of partitioned models."""

from pathlib import Path

from partition_kinds import table

MEMBER = Path(__file__).parents[2] / "packages/dbt_common"


def test_the_readme_has_the_outcome() -> None:
    assert table() in (MEMBER / "README.md").read_text(), f"`python {MEMBER}/tests/matrix/partition_kinds.py` prints it"
