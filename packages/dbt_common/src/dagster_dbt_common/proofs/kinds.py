"""The models that are proved, and the rows that they are made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

START = datetime(2024, 1, 30, tzinfo=UTC)
STEP = timedelta(minutes=90)
ROWS = 64
LATE, TAKEN_BACK = 20, 21  # both of the second day, and each of an hour of its own
VISITS = """
{{ config(materialized='table', event_time='ts') }}
select id, cast(ts as timestamp) as ts, cast(on_day as date) as on_day
from (
    {% for number in range(ROWS) -%}
    {%- set ts = modules.datetime.datetime(2024, 1, 30) + modules.datetime.timedelta(minutes=90 * number) -%}
    select {{ number }} as id, '{{ ts }}' as ts, '{{ ts.date() }}' as on_day{{ ' union all' if not loop.last }}
    {% endfor %}
) as visits
where id not in ({{ var('gone', [-1]) | join(', ') }})
""".replace("ROWS", str(ROWS))


@dataclass(frozen=True)
class Kind:
    """A model, and the partition that is built alone: that of the second day, or of an hour in it."""

    name: str
    config: str
    window: str
    grain: str

    @property
    def sql(self) -> str:
        """Return the model's file."""
        config = f"{{{{ config(materialized='incremental', {self.config}) }}}}"
        return f"{config}\nselect id, ts, on_day from {{{{ ref('visits') }}}} {self.window}"


def _of_window(name: str, grain: str, column: str) -> Kind:
    meta = f"meta=fromyaml(\"{{dagster: {{partitions: {{grain: {grain}, start: '2024-01-30'}}}}}}\")"
    config = f"incremental_strategy='delete_window+insert', event_time='{column}', {meta}"
    return Kind(name, config, f"where {{{{ in_window('{column}') }}}}", grain)


KINDS = (
    _of_window("days_of_timestamps", "day", "ts"),
    _of_window("hours_of_timestamps", "hour", "ts"),
    _of_window("months_of_dates", "month", "on_day"),
    Kind(
        "batches_of_days",
        "incremental_strategy='microbatch', event_time='ts', batch_size='day', begin='2024-01-30', lookback=0",
        "",
        "day",
    ),
)
