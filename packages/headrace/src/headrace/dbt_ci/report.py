"""What a change makes of the models, as data and as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

Change = Literal["changed", "new", "deleted", "unchanged"]


@dataclass(frozen=True)
class Columns:
    """The columns that differ.

    Args:
        added: the type of each new one.
        removed: the type of each that is gone.
        retyped: the types before and after of each that has another one.
    """

    added: Mapping[str, str] = field(default_factory=dict)
    removed: Mapping[str, str] = field(default_factory=dict)
    retyped: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.retyped)


@dataclass(frozen=True)
class Example:
    """A row that differs.

    Args:
        key: the value of each column of its key, as text.
        change: what became of it.
        columns: the columns of a changed one that differ.
    """

    key: Mapping[str, str]
    change: str
    columns: Sequence[str]


@dataclass(frozen=True)
class Rows:
    """The rows that differ.

    Args:
        key: the columns by which rows are told apart; without one, whole rows are counted.
        added: rows that are only after.
        removed: rows that are only before.
        changed: rows of one key with other values.
        columns: how many changed rows differ in each column.
        examples: the first ones by key.
        one_in: of how many rows one was compared, chosen by a hash of the key; 1 where all were.
    """

    key: Sequence[str]
    added: int
    removed: int
    changed: int
    columns: Mapping[str, int]
    examples: Sequence[Example]
    one_in: int

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass
class Tests:
    """How many tests of a model ended how; `failed` are those that failed or could not run."""

    passed: int = 0
    warned: int = 0
    failed: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class Model:
    """A model, seed or snapshot that was built, or that is deleted.

    Args:
        unique_id: dbt's.
        name: its name.
        kind: its materialization.
        change: whether it changed itself.
        build: dbt's status; None for a deleted one.
        window: whether its rows are those of the window only.
        rows_before: rows in production.
        rows_after: rows as CI built it.
        columns: the columns that differ.
        rows: the rows that differ; None where they were not compared.
        not_compared: why not.
        tests: its tests.
    """

    unique_id: str
    name: str
    kind: str
    change: Change
    build: str | None
    window: bool = False
    rows_before: int | None = None
    rows_after: int | None = None
    columns: Columns = field(default_factory=Columns)
    rows: Rows | None = None
    not_compared: str | None = None
    tests: Tests = field(default_factory=Tests)

    @property
    def differs(self) -> bool:
        """Return whether its rows or columns are others than in production."""
        return bool(self.columns or self.rows)

    @property
    def is_surprising(self) -> bool:
        """Return whether nobody changed the model, and its rows change."""
        return self.change == "unchanged" and self.differs


@dataclass(frozen=True)
class Failure:
    """A node that failed, or a test that warns.

    Args:
        unique_id: dbt's.
        name: its name.
        status: dbt's word.
        message: what dbt says.
    """

    unique_id: str
    name: str
    status: str
    message: str


@dataclass(frozen=True)
class Report:
    """What a change makes of a project's models.

    Args:
        project: its folder.
        start: the first day of the window, where there is one.
        end: the first day after it.
        models: in dbt's order.
        failures: what failed.
        warnings: the tests that warn.
    """

    project: str
    start: str | None
    end: str | None
    models: Sequence[Model]
    failures: Sequence[Failure]
    warnings: Sequence[Failure]

    @property
    def passed(self) -> bool:
        """Return whether all was built and no test failed."""
        return not self.failures


def as_json(report: Report) -> str:
    """Return it as one JSON object with the fields of `Report`, and `passed`."""
    models = [{**asdict(model), "differs": model.differs, "surprising": model.is_surprising} for model in report.models]
    content = {**asdict(report), "models": models, "passed": report.passed}
    return json.dumps(content, indent=2, ensure_ascii=False, default=str)
