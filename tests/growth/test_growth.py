"""What is kept follows what there is: a cluster that has changed for long takes no more memory.

The whole program runs (watch, state, verbs, waking, events, wishes) on an apiserver over HTTP, and
generations of a cluster come and go. ``GROWTH_GENERATIONS`` makes it more of them. The core alone
is faster: ``GROWTH_CHANGES=200000 pytest -s tests/growth -k core`` prints its memory, too. With
``GROWTH_CACHES=32`` all caches are full after some thousands of changes, and it rests sooner.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from logging import ERROR
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from cachetools import Cache
from structlog import make_filtering_bound_logger

from extender.cli.live import watched_service
from extender.cli.source import new_state
from extender.cluster.inventory import MAX_ANSWERS
from extender.cluster.ledger import KEPT_CHANGES
from extender.cluster.numbers import KEPT_GONE
from extender.config import ExtenderConfiguration
from extender.serving import service as serving
from extender.serving.service import Service
from tests.clock import Clock
from tests.controlplane.test_soak import resident_bytes
from tests.growth.churn import Churn, Object
from tests.growth.core import Core
from tests.growth.retained import endless_caches, entries, modules
from tests.serving.running import kubeconfig
from tests.watch.fake_apiserver import FakeApiserver

FIRST = 2
"""Generations until whatever is made once is made."""
MORE = int(os.environ.get("GROWTH_GENERATIONS", "6"))
CHANGES = int(os.environ.get("GROWTH_CHANGES", "3000"))
"""Of objects, in the core alone."""
CACHES = int(os.environ.get("GROWTH_CACHES", "1"))
"""The share of its room that every cache of the core has there: 32 for a thirty-second."""
LONG = 4_000.0
"""Seconds between generations: reservations, graces and the hour of events are over."""
SOON = 60.0

BOUNDED = {
    "Ledger._log": 2 * KEPT_CHANGES,
    "Changes.names": 2 * KEPT_CHANGES,
    "Numbers._gone": KEPT_GONE,
    "View.gone": KEPT_GONE,
    "Inventory._found": MAX_ANSWERS,
    "Inventory._answers": MAX_ANSWERS,
    "Told._said": ExtenderConfiguration().events.per_hour,
    "Told._alike": ExtenderConfiguration().events.per_hour,
    "extender.wire._NO_SCORE": 50_000,
}
"""What is thrown away by its number."""


class Grown:
    """The program over an apiserver whose cluster changes."""

    def __init__(self, api: FakeApiserver, service: Service, clock: Clock) -> None:
        self._clock = clock
        self.service = service
        self.churn = Churn(api, self._ask, clock)

    def live(self) -> None:
        """Let a generation come and go, and everything that it may leave for a while be over."""
        self.churn.live(self._await_nodes)
        self._clock.now += LONG
        state = self.service.context.state
        waits_for(lambda: len(self.service.waiting) == 0, "the waiting pods to be forgotten")
        waits_for(lambda: len(state.pods()) == 1, "the pods to be forgotten")
        state.view()  # as the next request would

    def kept(self) -> Counter[str]:
        return entries(self.service, *modules(), bounds=BOUNDED)

    def grew(self, before: Mapping[str, int]) -> dict[str, tuple[int, int]]:
        """Return what grew with each generation, once the threads have had their turns."""
        end = time.monotonic() + SOON
        while True:
            after = self.kept()
            grew = {
                x: (before.get(x, 0), now)
                for x, now in after.items()
                if now >= before.get(x, 0) + MORE
            }
            if not grew or time.monotonic() > end:
                return grew
            time.sleep(0.2)

    def _await_nodes(self, number: int) -> None:
        state = self.service.context.state
        waits_for(lambda: len(state.view().nodes) == number, f"{number} nodes to be known")

    def _ask(self, verb: str, document: Object) -> Any:
        return msgspec.json.decode(self.service.verbs[verb](msgspec.json.encode(document)))


def waits_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)


@pytest.fixture
def grown(tmp_path: Path) -> Iterator[Grown]:
    clock = Clock(1_800_000_000.0)
    configuration = ExtenderConfiguration()
    with FakeApiserver() as api:
        service = watched_service(
            new_state(configuration, clock, steady=clock),
            configuration,
            kubeconfig=kubeconfig(tmp_path, api.url),
            kube_context=None,
            observe=False,
        )
        made = Grown(api, service, clock)
        service.start()
        try:
            waits_for(lambda: not service.context.unsynced(), "the first lists")
            yield made
        finally:
            service.stop()


def test_a_cluster_that_came_and_went_leaves_nothing_behind(grown: Grown) -> None:
    for _ in range(FIRST):
        grown.live()
    before = grown.kept()
    for _ in range(MORE):
        grown.live()
    assert grown.grew(before) == {}


def test_the_core_keeps_no_more_after_many_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory may still grow then: by what its caches hold, up to their bounds."""
    monkeypatch.setattr(
        serving, "log", structlog.wrap_logger(None, [], make_filtering_bound_logger(ERROR))
    )
    monkeypatch.setattr(Cache, "__init__", with_less_room)
    core, before, begun = Core(BOUNDED), Counter[str](), 0
    for tenth in range(1, 11):
        while core.told < CHANGES * tenth // 10:
            core.live()
        kept, mib = core.kept(), resident_bytes([os.getpid()]) / 2**20
        print(f"{core.told} changes: {kept.total()} entries, {mib:.1f} MiB")  # noqa: T201 - to be read
        if tenth == 5:  # who was refused and deleted unseen is forgotten by now
            before, begun = kept, core.generations
    generations = core.generations - begun
    grew = {name: now for name, now in kept.items() if now >= before[name] + generations}
    assert grew == {}


def with_less_room(
    cache: Cache[Any, Any],
    maxsize: float,
    getsizeof: Any = None,
    *,
    init: Callable[..., None] = Cache.__init__,
) -> None:
    """Begin a cache in place of its own ``__init__``; one of few entries stays as it is."""
    init(cache, max(min(maxsize, 16), maxsize // CACHES), getsizeof)


def test_every_cache_has_a_bound() -> None:
    assert endless_caches() == []
