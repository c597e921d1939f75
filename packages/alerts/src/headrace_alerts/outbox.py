"""Messages until each of their destinations has them: kept in a sensor's cursor, without the destinations' secrets."""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from headrace_alerts.apprise_call import notify

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace_alerts.destinations import Destinations

_BUDGET = 20.0  # Seconds of sending in a tick, of which Dagster allows 60 by default.


class DeliveryError(Exception):
    """A destination did not take its messages; they are kept, and sent again by the next tick."""


@dataclass(frozen=True)
class Message:
    """Something to tell one route.

    Args:
        route: an owner, or `default`.
        title: one line.
        body: plain text.
        reached: digests of the URLs that have it.
    """

    route: str
    title: str
    body: str
    reached: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Return a message that was kept by `to_json`."""
        return cls(content["route"], content["title"], content["body"], tuple(content["reached"]))

    def to_json(self) -> Mapping[str, Any]:
        """Return what `from_json` reads."""
        return asdict(self)


@dataclass(frozen=True)
class Delivery:
    """What became of some messages.

    Args:
        sent: how many messages were sent, to a destination each.
        kept: the messages that did not reach each of their destinations yet.
        faults: why, a line for each destination.
    """

    sent: int
    kept: Sequence[Message]
    faults: Sequence[str]


def deliver(messages: Sequence[Message], destinations: Destinations) -> Delivery:
    """Send messages, each to those URLs of its route that do not have it yet.

    A destination that fails is left alone for the rest of the tick, and keeps nobody else waiting. After 20 seconds the
    rest waits for the next tick: one that takes too long for Dagster is forgotten, and its messages would go out twice.
    """
    deadline = time.monotonic() + _BUDGET
    faults: dict[str, str] = {}
    kept = []
    sent = 0
    for message in messages:
        reached = list(message.reached)
        is_kept = False
        for number, url in enumerate(destinations.urls.get(message.route, ()), 1):
            digest = hashlib.sha256(url.encode()).hexdigest()[:16]
            if digest in reached:
                continue
            if url not in faults and time.monotonic() < deadline:
                fault = notify(url, message.title, message.body)
                if fault is None:
                    reached.append(digest)
                    sent += 1
                    continue
                faults[url] = f"destination {number} of {message.route} {fault}"
            is_kept = True
        if is_kept:
            kept.append(replace(message, reached=tuple(reached)))
    return Delivery(sent, kept, list(faults.values()))
