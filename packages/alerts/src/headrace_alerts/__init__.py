"""Tells the owner of an asset that its run or its check failed: the same two sensors for each code location."""

from headrace_alerts.definitions import alert_definitions
from headrace_alerts.destinations import AlertSettingError, Destinations

__all__ = ["AlertSettingError", "Destinations", "alert_definitions"]
