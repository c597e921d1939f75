"""The call of Apprise, which knows the destinations that teams use: https://github.com/caronc/apprise."""

import warnings

_SECONDS = 10


def notify(url: str, title: str, body: str) -> str | None:
    """Send a text to one Apprise URL; return None, or why it did not arrive, without the URL's secrets."""
    with warnings.catch_warnings():
        # Apprise loads all of its plugins for its first URL, and one of them a module that Python 3.13 has removed.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Half a second, which a process that only loads definitions does not need.
        from apprise import Apprise, NotifyFormat, NotifyType

        service = Apprise()
        scheme = url.partition("://")[0]
        if not service.add(url):
            return "is not an Apprise URL: see https://github.com/caronc/apprise/wiki"
        result = service.notify(
            body, title, notify_type=NotifyType.FAILURE, body_format=NotifyFormat.TEXT, timeout=_SECONDS
        )
    return None if result else f"({scheme}) did not take the message: the log of the code server says why"
