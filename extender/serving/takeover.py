"""What was bound before is known, before anything is bound.

The fence opens when the Bindings of another leader, or of this program before it was started anew,
have been decided. Whether the watch has told of them is not a matter of time: it may lag, or its
socket be half open. So once the fence is open the apiserver is asked which version it has, and
nothing is bound until the watch of pods has reached that one. The next change of any pod brings it
there. Where nothing else happens, the first refused bind does: kube-scheduler writes it onto its
pod.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from extender.watch.answers import UnreachableError
from extender.watch.client import Transport
from extender.watch.failures import WatchFailedError
from extender.watch.listing import present_version
from extender.watch.messages import older
from extender.watch.resources import PODS

log = structlog.get_logger("extender.takeover")

_ASK_SECONDS = 1.0


class Takeover:
    """What has to be known in a term, and whether it is.

    ``reached`` tells up to which resource version pods are known, None where they are not. A term
    is one leader's, by any text that the next one's differs from.
    """

    def __init__(self, transport: Transport, reached: Callable[[], str | None]) -> None:
        self._transport = transport
        self._reached = reached
        self._asked: tuple[str, str] | None = None
        self._known = ""

    def ask(self, term: str) -> None:
        """Ask once in a term, after the fence has opened; not safe to call from two threads."""
        if self._asked is not None and self._asked[0] == term:
            return
        try:
            version = present_version(self._transport, PODS, read_timeout=_ASK_SECONDS)
        except (UnreachableError, WatchFailedError) as error:
            log.warning("it cannot be told what was bound before", error=str(error))
            return
        self._asked = term, version

    def unknown(self, term: str) -> str:
        """Return why nothing may be bound in this term yet; empty where it may.

        What was known once in a term stays known: whatever was bound before, nobody binds now.
        """
        if self._known == term:
            return ""
        asked, reached = self._asked, self._reached()
        if asked is None or asked[0] != term:
            return "the apiserver has not told yet up to where pods have to be known"
        if reached is None or older(reached, asked[1]):
            return "the watch has not told yet of all that was bound before"
        self._known = term
        return ""
