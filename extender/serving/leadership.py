"""The fence: pods are bound only while the kube-scheduler beside this extender leads.

A leader that has lost its Lease stops, but calls of its extender may still be under way, and an
extender knows nothing of what another one has reserved. So a Binding is sent only

- while the Lease names the kube-scheduler of this pod (its identity is ``HOSTNAME_UUID``, and both
  containers of a pod have one host name),
- while the Lease was renewed, by this process's clock, so lately that what is left of its
  duration is longer than a Binding can take. When that was is not seen: a renewal is younger than
  the look before the one that shows it, and
- not within the first seconds after another leader, or after the start of this process: what that
  one, or the process before, has sent has been decided by then. These seconds are few where that
  leader was seen silent until its Lease ran out: its own extender has stopped by the rule before,
  and
- once all that had been bound by then is known (``verbs/takeover``).

https://pkg.go.dev/k8s.io/client-go/tools/leaderelection has the rules that leaders keep.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Lock, Thread

import structlog

from extender.errors import InvalidObjectError, UsageError
from extender.kube.decode import decode
from extender.kube.objects import Lease, LeaseSpec
from extender.kube.times import unix_time
from extender.verbs.takeover import Takeover
from extender.watch import paths
from extender.watch.answers import UnreachableError
from extender.watch.client import Transport

log = structlog.get_logger("extender.leadership")

POLL_SECONDS = 1.0
SETTLE_SECONDS = 5.0
"""More than a Binding can take (see ``bindings``), and the apiserver to notice its client's end."""

SETTLE_AFTER_EXPIRY_SECONDS = 2.0
"""The same after a Lease that ran out. The extender of its holder sent nothing from
``SETTLE_SECONDS`` before the end of its duration, and a Binding takes less than that; the rest is
for the apiserver."""

_READ_SECONDS = 1.0
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # Linux has it


def awake_or_not() -> float:
    """Return seconds of a clock that nobody sets, and that goes on while the machine is suspended.

    ``time.monotonic`` stands still then, and another one leads meanwhile.
    """
    return time.clock_gettime(_CLOCK)


class Fence:
    """What is known of the Lease. ``monotonic`` and ``now`` are clocks in seconds; now is UNIX."""

    def __init__(
        self,
        hostname: str,
        *,
        monotonic: Callable[[], float] = awake_or_not,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._prefix = f"{hostname}_"
        self._monotonic = monotonic
        self._now = now
        self._started = monotonic()
        self._seen = LeaseSpec()
        self._looked_at: float | None = None
        self._renewed_after = float("-inf")
        self._renewed_before = float("-inf")
        self._settling = SETTLE_SECONDS
        self._changed_at = float("-inf")

    def observe(self, spec: LeaseSpec, *, asked_at: float) -> None:
        """Take a Lease as it was at the time when it was asked for (``monotonic``)."""
        if self.holder and spec.holder_identity != self.holder:
            ran_out = self._ran_out(asked_at)
            self._settling = SETTLE_AFTER_EXPIRY_SECONDS if ran_out else SETTLE_SECONDS
            self._changed_at = asked_at
        if spec.renew_time != self._seen.renew_time or spec.holder_identity != self.holder:
            self._renewed_after = self._earliest(spec, asked_at)
            self._renewed_before = asked_at
        self._seen = spec
        self._looked_at = asked_at

    def _earliest(self, spec: LeaseSpec, asked_at: float) -> float:
        """Return since when a renewal may be there: looks may have failed for a while before."""
        if self._looked_at is not None:
            return self._looked_at
        # The first look: the one who leads with this process has this machine's clock.
        return asked_at - max(0.0, self._now() - (unix_time(spec.renew_time) or 0.0))

    def _ran_out(self, asked_at: float) -> bool:
        """Tell whether the leader of before was silent until its Lease ended, not just replaced."""
        duration = self._seen.lease_duration_seconds
        if duration < SETTLE_SECONDS + 1.0:
            return False
        return asked_at - self._renewed_before >= duration - POLL_SECONDS

    @property
    def holder(self) -> str:
        """Return who leads, as far as was seen."""
        return self._seen.holder_identity

    @property
    def term(self) -> str:
        """Return what tells the present leader's time from that of any other."""
        return f"{self._seen.holder_identity} {self._seen.acquire_time}"

    @property
    def own(self) -> bool:
        """Tell whether the kube-scheduler of this pod leads, or did last, as far as was seen."""
        return self.holder.startswith(self._prefix)

    def closed(self) -> str:
        """Return why nothing may be bound now; empty where it may."""
        if self._looked_at is None:
            return "the lease of kube-scheduler has not been read yet"
        if not self.own:
            return f"the kube-scheduler of this pod does not lead; {self.holder or 'nobody'} does"
        silent = self._monotonic() - self._renewed_after
        if silent > max(1.0, self._seen.lease_duration_seconds - SETTLE_SECONDS):
            return f"the lease of kube-scheduler was not seen renewed for {silent:.0f} s"
        if self._seen.lease_transitions > 0:
            led = self._now() - (unix_time(self._seen.acquire_time) or 0.0)
            if 0 <= led < self._settling:
                return "the bindings of the leader before are still settling"
        if self._monotonic() - self._changed_at < self._settling:
            # Also where the Lease was deleted and made anew, or the wall clock was set.
            return "the bindings of the leader before are still settling"
        if self._monotonic() - self._started < SETTLE_SECONDS:
            return "the bindings of this extender before its start are still settling"
        return ""


class Alone:
    """The lead of a process that has no other beside it."""

    term = ""

    def leads(self) -> bool:
        """Tell that it does."""
        return True

    def caught_up(self) -> bool:
        """Tell that it is: whoever asks has listed everything first."""
        return True


class Leadership:
    """Reads one Lease again and again; ``closed`` is asked before each Binding."""

    def __init__(self, transport: Transport, lease: str, fence: Fence, takeover: Takeover) -> None:
        self._transport = transport
        self._path = lease_path(lease)
        self._fence = fence
        self._takeover = takeover
        self._looking = Lock()
        self._looks = 0
        self._stopping = Event()

    def start(self) -> None:
        """Begin to read; returns at once."""
        Thread(target=self._run, name="lease", daemon=True).start()

    def stop(self) -> None:
        """Stop reading."""
        self._stopping.set()

    def leads(self) -> bool:
        """Tell, without asking anybody, whether this replica is the one that acts."""
        return not self._fence.closed()

    @property
    def term(self) -> str | None:
        """Return what tells this replica's time from any other's; None while another one leads."""
        return self._fence.term if self._fence.own else None

    def caught_up(self) -> bool:
        """Tell whether all pods are known that were there when this replica began to act."""
        return not self._takeover.unknown(self._fence.term)

    def closed(self) -> str:
        """Return why nothing may be bound now, after a second look where the first says so."""
        if self._closed():
            self._look()
        return self._closed()

    def _closed(self) -> str:
        return self._fence.closed() or self._takeover.unknown(self._fence.term)

    def _run(self) -> None:
        before = None
        while not self._stopping.wait(POLL_SECONDS):
            try:
                self._look()
            except Exception:
                log.exception("the lease could not be looked at; it is tried again")
            if self._fence.holder != before:
                before = self._fence.holder
                log.info("leader", holder=before)

    def _look(self) -> None:
        """Look once for all who wait for it: binds are refused by the dozen, and a look is slow."""
        looks = self._looks
        with self._looking:
            if self._looks != looks:
                return  # one has begun since, and ended
            self._looks += 1
            self._read()
            if not self._fence.closed():
                self._takeover.ask(self._fence.term)

    def _read(self) -> None:
        asked_at = awake_or_not()
        try:
            answer = self._transport.request(
                "GET", self._path, connect_timeout=_READ_SECONDS, read_timeout=_READ_SECONDS
            )
            if answer.status == 404:
                self._fence.observe(LeaseSpec(), asked_at=asked_at)
            elif answer.ok:
                self._fence.observe(decode(answer.body, Lease).spec, asked_at=asked_at)
            else:
                log.warning(
                    "the lease cannot be read",
                    error=answer.problem().message or f"HTTP {answer.status}",
                )
        except (UnreachableError, InvalidObjectError) as error:
            log.warning("the lease cannot be read", error=str(error))


def lease_path(lease: str) -> str:
    """Return the API path of ``NAMESPACE/NAME``. Raises UsageError for anything else."""
    namespace, slash, name = lease.partition("/")
    if not slash or not namespace or not name or "/" in name:
        raise UsageError(f"--lease: {lease!r} is not NAMESPACE/NAME; write it like kube-system/x")
    return paths.lease_path(namespace, name)
