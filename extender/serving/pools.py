"""The threads that serve requests: each kind of caller has its own, so that none starves others."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor

from extender.serving.arrival import Arrival


class Pools(Executor):
    """Threads for the first listener's requests, for those of the others, and for health."""

    def __init__(self, threads: int) -> None:
        self._whole = {
            verbs: ThreadPoolExecutor(threads, thread_name_prefix=name)
            for verbs, name in ((True, "verbs"), (False, "status"))
        }
        self._partly = {
            verbs: ThreadPoolExecutor(threads, thread_name_prefix=f"{name}-arriving")
            for verbs, name in ((True, "verbs"), (False, "status"))
        }
        self._health = ThreadPoolExecutor(2, thread_name_prefix="health")

    def of(self, *, verbs: bool, found: Arrival) -> Executor:
        """Return the threads for a request."""
        if found is Arrival.HEALTH:
            return self._health
        return (self._partly if found is Arrival.PARTLY else self._whole)[verbs]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
        """Stop them all."""
        for pool in (*self._whole.values(), *self._partly.values(), self._health):
            pool.shutdown(wait, cancel_futures=cancel_futures)
