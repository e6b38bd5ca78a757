"""All reflectors together: started, asked how they are, stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from threading import Event, Thread
from time import monotonic

from extender.backoff import Backoff
from extender.watch.client import Transport
from extender.watch.freshness import STALE_AFTER, Freshness, Tracker
from extender.watch.reflector import Reflector, Sink, Timing
from extender.watch.resources import RESOURCES, Resource

MakeBackoff = Callable[[Random, Callable[[], float]], Backoff]


def _default_backoff(random: Random, clock: Callable[[], float]) -> Backoff:
    return Backoff(random=random, clock=clock)


class Watching:
    """One thread and one connection per resource, feeding ``sink``.

    Once synced, a caller may ``gc.freeze()``: what was listed stays for long.
    """

    def __init__(
        self,
        transport: Transport,
        sink: Sink,
        *,
        resources: Sequence[Resource] = RESOURCES,
        clock: Callable[[], float] = monotonic,
        random: Random | None = None,
        timing: Timing | None = None,
        make_backoff: MakeBackoff = _default_backoff,
    ) -> None:
        self._stopping = Event()
        self._clock = clock
        self._trackers: list[Tracker] = []
        self._transports: list[Transport] = []
        self._threads: list[Thread] = []
        seeds = random or Random()  # noqa: S311 - spreads waits, guards nothing
        for resource in resources:
            own = Random(seeds.random())  # noqa: S311
            own_transport = transport.sibling()
            tracker = Tracker(resource.name, clock)
            reflector = Reflector(
                resource=resource,
                transport=own_transport,
                sink=sink,
                tracker=tracker,
                backoff=make_backoff(own, clock),
                random=own,
                clock=clock,
                stopping=self._stopping,
                timing=timing or Timing(),
            )
            self._trackers.append(tracker)
            self._transports.append(own_transport)
            name = f"watch-{resource.name}"
            self._threads.append(Thread(target=reflector.run, name=name, daemon=True))

    def start(self) -> None:
        """Begin to list and watch; returns at once."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 1.0) -> bool:
        """Cut the connections and end the loops; return whether all ended within ``timeout``.

        A loop that has not (it may be in a connection attempt, a few seconds at most) no longer
        touches the sink.
        """
        self._stopping.set()
        for transport in self._transports:
            transport.cut()
        deadline = monotonic() + timeout
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def synced(self) -> bool:
        """Whether every resource has been listed once."""
        return all(tracker.synced.is_set() for tracker in self._trackers)

    def wait_synced(self, timeout: float) -> bool:
        """Wait until synced, at most ``timeout`` seconds; return whether it is."""
        deadline = monotonic() + timeout
        return all(
            tracker.synced.wait(max(0.0, deadline - monotonic())) for tracker in self._trackers
        )

    def freshness(self) -> tuple[Freshness, ...]:
        """Return how every resource stands."""
        return tuple(tracker.freshness() for tracker in self._trackers)

    def version(self, resource: Resource) -> str | None:
        """Return the version up to which a resource is known; None before it was listed (anew)."""
        return next(one.version for one in self._trackers if one.kind == resource.name)

    def stale(self, bound_seconds: float = STALE_AFTER) -> tuple[Freshness, ...]:
        """Return the resources that must not be trusted now."""
        return tuple(one.freshness() for one in self._trackers if one.stale(bound_seconds))
