"""A replica's fence, looked at as ``serving/leadership`` does, and what it has to know first."""

from __future__ import annotations

from collections.abc import Callable

from extender.kube.objects import LeaseSpec
from extender.verbs.takeover import Takeover
from simulation.choices import Choices
from simulation.faults import Faults
from simulation.scenario import Fence
from simulation.timeline import Timeline

_POLL_SECONDS = 1.0


class Fencing:
    """Reads the Lease again and again, and asks for the apiserver's version once in a term.

    ``present`` tells that version, ``reached`` whether pods are known up to one.
    """

    def __init__(
        self,
        fence: Fence,
        *,
        lease: Callable[[], LeaseSpec],
        present: Callable[[], int],
        reached: Callable[[int], bool],
        timeline: Timeline,
        choices: Choices,
        faults: Faults,
    ) -> None:
        self._fence = fence
        self._lease = lease
        self._timeline = timeline
        self._choices = choices
        self._faults = faults
        self._running = True

        def asked() -> str | None:
            return None if faults.happens(10) else str(present())

        self._takeover = Takeover(asked, lambda version: reached(int(version)))
        self._poll()

    @property
    def term(self) -> str | None:
        """Return what tells this replica's time from any other's; None while another leads."""
        return self._fence.term if self._fence.own else None

    def caught_up(self) -> bool:
        """Tell whether all pods are known that were there when this replica began to act."""
        return not self._takeover.unknown(self._fence.term)

    def closed(self) -> str:
        """Return why nothing may be bound now; empty where it may."""
        return self._fence.closed() or self._takeover.unknown(self._fence.term)

    def leads(self) -> bool:
        """Tell whether this replica is the one that acts."""
        return not self._fence.closed()

    def end(self) -> None:
        """Look no more."""
        self._running = False

    def _poll(self) -> None:
        seen, asked_at = self._lease(), self._timeline.now
        delay = self._choices.between(0.001, 1.0) if self._faults.on else 0.0

        def answered() -> None:
            self._fence.observe(seen, asked_at=asked_at)
            if not self._fence.closed():
                self._takeover.ask(self._fence.term)
            if self._running:
                self._timeline.after(_POLL_SECONDS, self._poll)

        self._timeline.after(delay, answered)
