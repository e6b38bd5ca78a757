"""Two replicas, of which one leads: a Lease, its holder, and how the lead is lost.

After client-go's leader election: a leader renews every two seconds, another one takes the Lease
once it was not renewed for its duration, or at once where it was given up. A leader that stands
still keeps no Lease, but what its binding cycles had begun goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from extender.kube.objects import LeaseSpec
from simulation.choices import Choices
from simulation.timeline import Timeline

HOSTS = ("alpha", "beta")
_RENEW_SECONDS = 2.0
_DURATION_SECONDS = 15


class Loss(StrEnum):
    """How a leader loses the lead."""

    RELEASED = "gives the lead up"
    STALLED = "stands still"
    KILLED = "is killed"
    CRASHED = "loses its kube-scheduler alone"


class Lead:
    """The Lease. ``taken`` is told the number of the replica that has just taken it."""

    def __init__(
        self,
        *,
        timeline: Timeline,
        choices: Choices,
        skew: Callable[[int], float],
        taken: Callable[[int], None],
        say: Callable[[str], None],
    ) -> None:
        self.holder = 0
        self._timeline = timeline
        self._choices = choices
        self._skew = skew
        self._taken = taken
        self._say = say
        self._processes = 0
        self._renewing = True
        self.spec = LeaseSpec(lease_duration_seconds=_DURATION_SECONDS)
        self._acquire(0)
        self._renew(self._processes)

    @property
    def stable(self) -> bool:
        """Tell whether somebody leads and renews."""
        return self._renewing

    def lose(self, loss: Loss) -> int:
        """Let the present holder stop renewing; return which replica leads next, in time.

        It is the other one, unless a kube-scheduler that has crashed is back before.
        """
        self._renewing = False
        again = loss is Loss.CRASHED and self._choices.chance(50)
        heir = self.holder if again else 1 - self.holder
        if loss is Loss.RELEASED:
            self.spec = msgspec.structs.replace(self.spec, holder_identity="")
            delay = self._choices.between(0.0, _RENEW_SECONDS)
        else:
            delay = _DURATION_SECONDS + self._choices.between(0.0, _RENEW_SECONDS)

        def take() -> None:
            self._acquire(heir)
            self._renew(self._processes)
            self._taken(heir)

        self._timeline.after(delay, take)
        return heir

    def _acquire(self, replica: int) -> None:
        self._processes += 1
        self._renewing = True
        self.holder = replica
        now = self._stamp(replica)
        self._say(f"{HOSTS[replica]} leads")
        self.spec = msgspec.structs.replace(
            self.spec,
            holder_identity=f"{HOSTS[replica]}_{self._processes}",
            acquire_time=now,
            renew_time=now,
            lease_transitions=self._processes - 1,
        )

    def _renew(self, process: int) -> None:
        if process == self._processes and self._renewing:
            self.spec = msgspec.structs.replace(self.spec, renew_time=self._stamp(self.holder))
            self._timeline.after(_RENEW_SECONDS, lambda: self._renew(process))

    def _stamp(self, replica: int) -> str:
        moment = self._timeline.now + self._skew(replica)
        return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds")
