"""The raw tables, all daily ones on one shared partitions definition that starts with `HEADRACE_START`."""

import dagster as dg

from ingest import settings
from ingest.assets import raw_asset
from ingest.tables import TABLES

days = dg.DailyPartitionsDefinition(start_date=settings.start().isoformat())

raw_assets = [raw_asset(table, days) for table in TABLES]
