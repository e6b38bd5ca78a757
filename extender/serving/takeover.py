"""How a new leader asks the apiserver what it has to know (``verbs/takeover``)."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from extender.verbs.takeover import Takeover
from extender.watch.answers import UnreachableError
from extender.watch.client import Transport
from extender.watch.failures import WatchFailedError
from extender.watch.listing import present_version
from extender.watch.messages import older
from extender.watch.resources import PODS

log = structlog.get_logger("extender.takeover")

_ASK_SECONDS = 1.0


def takeover(transport: Transport, known: Callable[[], str | None]) -> Takeover:
    """Return what asks through a transport.

    ``known`` tells up to which resource version pods are known, None where they are not.
    """

    def present() -> str | None:
        try:
            return present_version(transport, PODS, read_timeout=_ASK_SECONDS)
        except (UnreachableError, WatchFailedError) as error:
            log.warning("it cannot be told what was bound before", error=str(error))
            return None

    def reached(version: str) -> bool:
        at = known()
        return at is not None and not older(at, version)

    return Takeover(present, reached)
