"""The automation conditions of dbt assets: what follows what, and what holds it back.

They are Dagster's own, put together so that what is silent in `eager()` is not: it looks at the latest partition only,
wants every partition below an unpartitioned mart, never fires below an asset that is only a stub, and does not look at
the checks of another run. What conditions cannot see (a reload that forgets what was pending, an upstream that was
loaded while its reader was being built, a run that failed) the sensor of `reconcile.py` heals.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dagster import AssetKey, AutomationCondition
from dagster_shared.check import CheckError

if TYPE_CHECKING:
    from collections.abc import Sequence


# Dagster's conditions have the type of what they are evaluated for, which differs from step to step here.
_Condition = AutomationCondition[Any]

_CRON = re.compile(r"""cron\s+(['"]?)(?P<cron>[^'"]+?)\1(\s+(?P<zone>[A-Z][\w/+-]+))?""")


@dataclass(frozen=True)
class Automation:
    """When an asset follows what it is made from.

    Args:
        kind: `eager` for at once, `cron` for at the ticks of a schedule, `none` for never by itself.
        cron: the schedule of kind `cron`.
        timezone: the schedule's time zone, an IANA name.
    """

    kind: Literal["eager", "cron", "none"]
    cron: str = ""
    timezone: str = "UTC"

    @classmethod
    def parse(cls, text: str) -> Automation:
        """Read `eager`, `none`, or `cron '0 6 * * *'`, with an IANA time zone behind it where it is not UTC.

        Raises:
            ValueError: it is none of these; the message says what it may be.
        """
        match text:
            case "eager":
                return cls("eager")
            case "none":
                return cls("none")
        match = _CRON.fullmatch(str(text).strip())
        if match:
            zone = match["zone"] or "UTC"
            try:
                ZoneInfo(zone)
                AutomationCondition.cron_tick_passed(match["cron"])
            except ZoneInfoNotFoundError:
                raise ValueError(f"{text!r}: {zone} is not an IANA time zone") from None
            except CheckError:
                pass
            else:
                return cls("cron", match["cron"], zone)
        raise ValueError(f"{text!r} is none of eager, none, and cron with a schedule, such as cron '0 6 * * *'")


@dataclass(frozen=True)
class Upstreams:
    """What a condition needs to know of an asset's upstreams.

    Args:
        partitioned: whether the asset itself has partitions.
        followers: upstream assets that follow their own upstreams by themselves: the asset waits for them.
        tested_views: views with tests between the asset and its tables.
    """

    partitioned: bool
    followers: Sequence[AssetKey] = ()
    tested_views: Sequence[AssetKey] = ()


def table_condition(automation: Automation, upstreams: Upstreams) -> AutomationCondition[AssetKey] | None:
    """Return the condition of a table, an incremental model or a snapshot.

    A partition is built when one of the partitions that it reads was updated, whichever it is, directly or through
    views; not before one of each upstream exists, none of them is being built, the assets between have followed, and
    the blocking checks have passed. So a late day is that day and then each mart once. The failure mode that remains: a
    follower that cannot be built holds back what is made from it, until it is mended or built by hand.
    """
    if automation.kind == "none":
        return None
    trigger = _pending()
    if not upstreams.partitioned:
        # A new partition waits for its upstreams to be updated instead: an hour exists before the day that it reads.
        trigger |= AutomationCondition.newly_missing().since_last_handled()
    if automation.kind == "cron":
        # The tick after the change, not the one before it.
        trigger &= AutomationCondition.cron_tick_passed(automation.cron, automation.timezone).since(_updated())
    return (trigger & _may_run(upstreams)).with_label(_label(automation))


def view_condition(
    automation: Automation, upstreams: Upstreams, *, tested: bool
) -> AutomationCondition[AssetKey] | None:
    """Return the condition of a view, or of a seed.

    It is made when it is missing or its code changed. A view with tests is made again whenever the tables under it
    change, because its tests then have new rows to look at, and its readers wait for their result.
    """
    if automation.kind == "none":
        return None
    missing: _Condition = AutomationCondition.missing()
    changed: _Condition = AutomationCondition.code_version_changed()
    trigger = missing.since(_handled()) | changed.since(_handled())
    if tested:
        trigger |= _pending()
    return (trigger & _may_run(upstreams)).with_label(_label(automation))


def _label(automation: Automation) -> str:
    return automation.kind if automation.kind == "eager" else f"cron {automation.cron!r} {automation.timezone}"


def _handled() -> _Condition:
    return AutomationCondition.newly_requested() | AutomationCondition.newly_updated()


def _updated() -> _Condition:
    return AutomationCondition.any_deps_match(AutomationCondition.newly_updated()).resolve_through_virtual()


def _pending() -> _Condition:
    """Return whether an upstream was updated since the asset was, and since it was requested; or will be in its run.

    `any_deps_updated().since_last_handled()` would lose an update that comes in the same tick as what it is to follow:
    Dagster orders the two by their times only where neither is an `and` or an `or` of conditions.
    """
    pending: _Condition = _updated().since(AutomationCondition.newly_updated())
    pending &= _updated().since(AutomationCondition.newly_requested())
    together = AutomationCondition.any_deps_match(AutomationCondition.will_be_requested()).resolve_through_virtual()
    return pending | together


def _may_run(upstreams: Upstreams) -> _Condition:
    building = AutomationCondition.any_deps_in_progress()
    passed = AutomationCondition.all_deps_match(_checks_passed())
    missing: _Condition = AutomationCondition.missing()
    missing &= ~AutomationCondition.will_be_requested()
    condition: _Condition = ~AutomationCondition.in_progress()
    condition &= ~building
    condition &= ~building.resolve_through_virtual()
    # True where one partition of each upstream is there: with all of them a table would wait for ever, and so would a
    # month of which a day never came.
    there = AutomationCondition.all_deps_match(~missing)
    condition = condition & there & there.resolve_through_virtual()
    condition = condition & passed & passed.resolve_through_virtual()
    for key in upstreams.tested_views:
        condition &= AutomationCondition.asset_matches(key, _checks_passed())
    for key in (*upstreams.followers, *upstreams.tested_views):
        behind = _behind()
        behind &= ~AutomationCondition.will_be_requested()
        condition &= ~AutomationCondition.asset_matches(key, behind)
    return condition


def _behind() -> _Condition:
    """Return whether an upstream of an asset was updated since the asset was.

    A partition that lacks one of its upstreams may lack it for ever: nobody waits for it.
    """
    behind: _Condition = _updated().since(AutomationCondition.newly_updated())
    behind &= AutomationCondition.all_deps_match(~AutomationCondition.missing()).resolve_through_virtual()
    return behind.with_label("behind")


def _checks_passed() -> _Condition:
    return AutomationCondition.all_checks_match(
        AutomationCondition.check_passed() | AutomationCondition.will_be_requested(), blocking_only=True
    )
