"""Where the environment says that the alerts of an owner go."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

DEFAULT_ROUTE = "default"
"""The route of what has no owner, or an owner without destinations of its own."""

_VARIABLE = "HEADRACE_ALERTS"
_URL = "HEADRACE_URL"
_EXAMPLE = 'write {"default": ["slack://..."]}'


class AlertSettingError(ValueError):
    """A setting of the alerts is unusable; the message is one line for the user, without its secrets."""


@dataclass(frozen=True)
class Destinations:
    """The Apprise URLs of each route; a route is an owner as asset specs name it, or `default`.

    Args:
        urls: by route.
    """

    urls: Mapping[str, Sequence[str]]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Destinations | None:
        """Return what `HEADRACE_ALERTS` says, as JSON or as the path of a JSON file; None where it is not set.

        Each tick asks anew, so a changed file needs no restart.

        Raises:
            AlertSettingError: it cannot be read, or is no object of lists of URLs.
        """
        setting = environment.get(_VARIABLE, "").strip()
        if not setting:
            return None
        where = _VARIABLE
        text = setting
        if not setting.startswith(("{", "[")):
            where = f"{_VARIABLE}: {setting}"
            try:
                text = Path(setting).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                raise AlertSettingError(f"{where}: {reason}: name a readable JSON file") from None
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise AlertSettingError(f"{where}: line {error.lineno}: {error.msg}: {_EXAMPLE}") from None
        if not isinstance(content, dict):
            raise AlertSettingError(f"{where}: it is not an object: {_EXAMPLE}")
        for route, urls in content.items():
            if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
                raise AlertSettingError(f"{where}: the value of {route} is not a list of URLs: {_EXAMPLE}")
        return cls(content)

    @staticmethod
    def check(environment: Mapping[str, str] = os.environ) -> None:
        """Refuse what no file and no restart but this one's can mend: a text in `HEADRACE_ALERTS`, and `HEADRACE_URL`.

        A file may be mended while the location is served: each tick says what is wrong with it.

        Raises:
            AlertSettingError: one of them is unusable.
        """
        if environment.get(_VARIABLE, "").strip().startswith(("{", "[")):
            Destinations.from_environment(environment)
        url = environment.get(_URL, "")
        if url and not url.startswith(("http://", "https://")):
            raise AlertSettingError(
                f"{_URL}: {url!r} is no address of a page: write it like https://dagster.example.com"
            )

    def routes(self, owners: Collection[str]) -> Collection[str]:
        """Return the routes of what these own: each owner that has destinations, or else `default`.

        Nothing where there is no `default` either.
        """
        found = sorted(owner for owner in owners if self.urls.get(owner))
        return found or [route for route in (DEFAULT_ROUTE,) if self.urls.get(route)]
