"""Days of Europe/Berlin in a foreign project: rows around local midnights, on both days on which the clock changes."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conftest import Wholesale

# Loads the project by a real parse.
pytestmark = pytest.mark.slow

BERLIN = ZoneInfo("Europe/Berlin")


def berlin_rows() -> Mapping[str, datetime]:
    """Return shipments in UTC around the local midnights of both days on which the clock changes."""
    moments = {}
    for day in ("2024-03-30", "2024-03-31", "2024-04-01", "2024-10-26", "2024-10-27", "2024-10-28"):
        midnight = datetime.fromisoformat(day).replace(tzinfo=BERLIN).astimezone(UTC)
        for name, offset in (("before", -1), ("at", 0), ("after", 1)):
            moments[f"{day}-{name}"] = midnight + timedelta(microseconds=offset)
    # 02:30 is twice on the last Sunday of October, and never on that of March.
    moments["first-0230"] = datetime(2024, 10, 27, 0, 30, tzinfo=UTC)
    moments["second-0230"] = datetime(2024, 10, 27, 1, 30, tzinfo=UTC)
    moments["skipped-hour"] = datetime(2024, 3, 31, 1, 0, tzinfo=UTC)
    return moments


def test_rows_at_local_midnights_are_in_one_berlin_day_each(wholesale: Wholesale) -> None:
    wholesale.forget()
    rows = berlin_rows()
    values = ", ".join(
        f"('{name}', 'o', 'c1', timestamp '{moment:%Y-%m-%d %H:%M:%S.%f}', null::timestamp, 1::bigint)"
        for name, moment in rows.items()
    )
    columns = "shipment_id, order_id, carrier_id, shipped_at, delivered_at, weight_grams"
    wholesale.write("shipments", f"select * from (values {values}) as t ({columns})")
    assert wholesale.run({dg.AssetKey("stg_tms__shipments")}, []).success

    seen: set[str] = set()
    for day in ("2024-10-27", "2024-03-31", "2024-04-01", "2024-03-30", "2024-10-28", "2024-10-26"):
        result = wholesale.run({dg.AssetKey("local_shipments"), dg.AssetKey("local_shipment_days")}, [day])
        assert result.success
        ids = {str(row[0]) for row in wholesale.rows("select shipment_id from local_shipments")}
        expected = {name for name, moment in rows.items() if f"{moment.astimezone(BERLIN):%Y-%m-%d}" == day}
        assert ids - seen == expected, day
        seen = ids

    repeated = wholesale.rows("select shipment_id from local_shipments group by all having count(*) > 1")
    days = wholesale.rows("select local_day::text, shipments from local_shipment_days order by all")
    assert repeated == []
    local = Counter(f"{moment.astimezone(BERLIN):%Y-%m-%d}" for moment in rows.values())
    built = {"2024-03-30", "2024-03-31", "2024-04-01", "2024-10-26", "2024-10-27", "2024-10-28"}
    assert days == sorted((day, count) for day, count in local.items() if day in built)
