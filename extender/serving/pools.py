"""The threads that serve requests: each kind of caller has its own, so that none starves others.

Bind has its own, too, and many: it waits for the apiserver, seconds where that is slow, and
kube-scheduler binds any number of pods side by side. With the same threads as filter it would leave
it none; with few of its own it would come late to reserve, and filter pass more pods meanwhile than
there is room for.
"""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor

from extender.serving.arrival import Arrival

BIND_THREADS = 64
"""Threads are made when they are needed, and most of these only wait. So many Bindings at once are
as much as one client should ask of an apiserver that is slow."""


class Pools(Executor):
    """Threads for the first listener's requests, for binds, for the other listeners', for health.

    ``threads`` is how many each of the listeners has; what finds none waits.
    """

    def __init__(self, threads: int) -> None:
        self._whole = {
            verbs: ThreadPoolExecutor(threads, thread_name_prefix=name)
            for verbs, name in ((True, "verbs"), (False, "status"))
        }
        self._partly = {
            verbs: ThreadPoolExecutor(threads, thread_name_prefix=f"{name}-arriving")
            for verbs, name in ((True, "verbs"), (False, "status"))
        }
        self._binds = ThreadPoolExecutor(BIND_THREADS, thread_name_prefix="binds")
        self._health = ThreadPoolExecutor(2, thread_name_prefix="health")

    def of(self, *, verbs: bool, found: Arrival) -> Executor:
        """Return the threads for a request."""
        if found is Arrival.HEALTH:
            return self._health
        if found is Arrival.BIND and verbs:
            return self._binds
        return (self._partly if found is Arrival.PARTLY else self._whole)[verbs]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
        """Stop them all."""
        pools = (*self._whole.values(), *self._partly.values(), self._binds, self._health)
        for pool in pools:
            pool.shutdown(wait, cancel_futures=cancel_futures)
