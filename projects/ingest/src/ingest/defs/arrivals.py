"""The sensor that loads exports as they arrive."""

from ingest.defs.raw import days
from ingest.new_exports import new_exports_sensor
from ingest.tables import TABLES

new_exports = new_exports_sensor(TABLES, days)
