"""The two ways in which a watch goes on after it broke."""

from __future__ import annotations

from extender.errors import ExtenderError
from extender.watch.answers import Answer, asked_in
from extender.watch.messages import Status

_NOT_THIS_VERSION = frozenset({400, 404, 410, 422})


class WatchFailedError(ExtenderError):
    """Wait (at least ``retry_after`` seconds), then go on from the last resource version."""

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RelistError(WatchFailedError):
    """The last resource version is of no more use: wait, then list everything."""


def refusal(answer: Answer) -> WatchFailedError:
    """Return what an HTTP answer that is not a success means."""
    return failure(answer.problem(), retry_after=answer.retry_after())


def failure(status: Status, *, retry_after: float = 0.0) -> WatchFailedError:
    """Return what a Status means, sent as an answer or as an ERROR event."""
    relist = status.expired() or status.ahead() or status.code in _NOT_THIS_VERSION
    kind = RelistError if relist else WatchFailedError
    return kind(f"apiserver: {status.summary()}", retry_after=retry_after or asked_in(status))
