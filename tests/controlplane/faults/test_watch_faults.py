"""Whatever comes between the watch and a real apiserver: what is known is a fresh list again.

Each law has a bound in seconds, from the end of the fault; nothing is restarted. All along, what
freshness claims is compared with what the apiserver has confirmed: an age of ``a`` seconds must
mean that everything that was true ``a`` seconds ago is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from threading import Event
from time import monotonic
from typing import Any

import msgspec
import pytest

from extender.watch.reflector import Timing
from extender.watch.resources import NAMESPACES, NODES
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.faults import kinds_of_fault as faults
from tests.controlplane.faults.api import Api, Key
from tests.controlplane.faults.churn import Storm
from tests.controlplane.faults.proxy import Proxy
from tests.controlplane.faults.scene import (
    BOUND,
    IMPATIENT,
    LONG,
    PATHS,
    Scene,
    access_through,
    eventually,
    scene,
)

SLOW_LIST = 30.0 if LONG else 4.0

PATIENT = Timing(outage=60.0)
"""The real times, but for the outage after which everything is listed anew: on a busy machine what
is to be short may last longer than those ten seconds."""

pytestmark = pytest.mark.long


class Case(msgspec.Struct, frozen=True):
    """Where a fault is met, and whether everything is listed anew after it."""

    verb: str
    faults: Sequence[Any]
    relists: bool
    timing: Timing | None = None


CASES: dict[str, Case] = {
    "410": Case("watch", [faults.answers(410, "Expired")], relists=True),
    "410 as an event": Case("event", [faults.error_event(410, "Expired")], relists=True),
    "429": Case("watch", [faults.answers(429, "TooManyRequests", 1)], relists=False),
    "429 to the question for the version": Case(
        "ask", [faults.answers(429, "TooManyRequests", 1)], relists=False
    ),
    "500, 502, 503 and 504": Case(
        "watch", [faults.answers(code) for code in (500, 502, 503, 504)], relists=False
    ),
    "500 as an event": Case("event", [faults.error_event(500, "InternalError")], relists=False),
    "reset in place of an answer": Case("watch", [faults.reset_before_head], relists=False),
    "reset in mid-line": Case("event", [faults.reset_mid_line], relists=False),
    "closed in mid-line": Case("event", [faults.closed_mid_line], relists=False),
    "half-open socket": Case("event", [faults.half_open], relists=True, timing=IMPATIENT),
    "half-open from the start": Case(
        "watch", [faults.half_open_from_the_start], relists=True, timing=IMPATIENT
    ),
    "truncated JSON": Case("event", [faults.truncated_json], relists=False),
    "truncated JSON, and the stream goes on": Case("event", [faults.garbled_json], relists=False),
    "unknown event type": Case("event", [faults.unknown_event], relists=False),
    "duplicate events": Case("event", [faults.duplicate] * 3, relists=False),
    "events out of order": Case("event", [faults.out_of_order], relists=True),
    "old events again": Case("event", [faults.replayed], relists=True),
    "every byte alone": Case("event", [faults.split_everywhere], relists=False),
    "a watch that ends at once": Case("watch", [faults.ends_at_once] * 2, relists=False),
}
LISTS: dict[str, Case] = {
    "410": Case("list", [faults.answers(410, "Expired")], relists=True),
    "429": Case("list", [faults.answers(429, "TooManyRequests", 1)], relists=True),
    "500 and 503": Case("list", [faults.answers(500), faults.answers(503)], relists=True),
    "reset": Case("list", [faults.reset_before_head], relists=True),
    "cut off": Case("list", [faults.truncated_list], relists=True),
    "truncated JSON": Case("list", [faults.broken_list], relists=True),
}


def provoke(made: Scene, proxy: Proxy, armed: int) -> None:
    """Change things until every fault has been met, and a little more."""
    made.churn.changes(2)
    deadline = monotonic() + 30
    while proxy.met < armed:
        assert monotonic() < deadline, f"only {proxy.met} of {armed} faults were met"
        made.churn.touch()
        Event().wait(0.05)
    made.churn.changes(1)


@pytest.mark.parametrize("fault", CASES)
def test_after_a_fault_of_the_watch_the_state_equals_a_fresh_list(
    control_plane: ControlPlane,
    proxy: Proxy,
    api: Api,
    playground: str,
    *,
    fault: str,
    seed: int,
) -> None:
    case = CASES[fault]
    access = access_through(proxy, control_plane)
    timing = case.timing or PATIENT
    with scene(proxy, api, playground, seed, access=access, timing=timing) as (made, state):
        armed = proxy.meet(case.verb, *case.faults, paths=PATHS)
        if case.verb != "event":
            proxy.drop()
        provoke(made, proxy, armed)
        made.settle(state)
        if case.relists:
            assert eventually(lambda: made.total("relists") > 0, BOUND)
        else:
            assert made.total("relists") == 0

        def hears_of_all() -> bool:
            """Give each kind news: what came while it waited was a backlog, which proves nothing.

            Without any it would be a bookmark that tells, up to a minute later.
            """
            made.churn.touch()
            return not made.watching.stale(BOUND)

        assert eventually(hears_of_all, BOUND)


def ours(made: Scene, playground: str) -> set[tuple[str, Key]]:
    """Return what is known of the playground and ends by this test's own requests alone.

    What other tests have left ends when it will, and so does what finalizers protect.
    """
    known = made.tee.known().items()
    return {
        (kind, key)
        for kind, objects in known
        if kind not in {"PersistentVolumeClaim", "PersistentVolume"}
        for key in objects
        if playground in key
    }


@pytest.mark.parametrize("fault", LISTS)
def test_after_a_fault_of_the_list_the_state_equals_a_fresh_list(
    control_plane: ControlPlane,
    proxy: Proxy,
    api: Api,
    playground: str,
    *,
    fault: str,
    seed: int,
) -> None:
    """Until the list is whole, what was known before stays."""
    case = LISTS[fault]
    access = access_through(proxy, control_plane)
    with scene(proxy, api, playground, seed, access=access) as (made, state):
        proxy.meet("watch", faults.answers(410, "Expired"), paths=PATHS)
        armed = proxy.meet("list", *case.faults, paths=PATHS) + len(PATHS)
        before = ours(made, playground)
        proxy.drop()
        assert eventually(lambda: proxy.met > len(PATHS), BOUND)
        assert before <= ours(made, playground)
        provoke(made, proxy, armed)
        made.settle(state)
        # A kind that nothing was missed of is true before its list is there.
        assert eventually(lambda: all(one.relists == 1 for one in made.watching.freshness()), BOUND)


def test_a_page_that_fails_does_not_cost_the_list(
    control_plane: ControlPlane, proxy: Proxy, api: Api, playground: str, seed: int
) -> None:
    access, timing = access_through(proxy, control_plane), Timing(page_size=2)
    with scene(proxy, api, playground, seed, access=access, timing=timing) as (made, state):
        made.churn.changes(3)
        path = [NAMESPACES.path]
        armed = proxy.meet("watch", faults.answers(410, "Expired"), paths=path)
        armed += proxy.meet("page", faults.answers(503), faults.reset_before_head, paths=path)
        proxy.drop()
        provoke(made, proxy, armed)
        made.settle(state)
        assert eventually(lambda: made.freshness()["Namespace"].relists == 1, BOUND)


def test_a_server_that_asks_for_patience_is_left_alone_for_so_long(
    control_plane: ControlPlane, proxy: Proxy, api: Api, playground: str, seed: int
) -> None:
    access = access_through(proxy, control_plane)
    with scene(proxy, api, playground, seed, access=access) as (made, state):
        path = NODES.path
        proxy.meet("watch", faults.answers(429, "TooManyRequests", 2), paths=[path])
        dropped_at = monotonic()
        proxy.drop()
        assert eventually(lambda: len(proxy.asked("watch", path, dropped_at)) >= 2, BOUND)
        assert proxy.met == 1
        refused_at = proxy.asked("watch", path, dropped_at)[0]
        later = [r.at - refused_at for r in proxy.requests if r.path == path and r.at > refused_at]
        assert 2.0 <= min(later) < 2.0 + BOUND
        made.churn.changes(1)
        made.settle(state)


def test_a_refused_connection_is_survived_and_told(
    control_plane: ControlPlane, proxy: Proxy, api: Api, playground: str, seed: int
) -> None:
    access = access_through(proxy, control_plane)
    with scene(proxy, api, playground, seed, access=access, timing=PATIENT) as (made, state):
        made.churn.changes(1)
        proxy.down()
        cut_at = monotonic()
        made.churn.changes(3)
        assert eventually(lambda: len(made.watching.stale(1.5)) == len(PATHS), BOUND)
        looked_at = monotonic()
        for one in made.watching.freshness():
            assert one.age_seconds >= looked_at - cut_at - 0.5
            assert one.last_error
        proxy.up()
        made.churn.changes(1)
        made.settle(state)
        assert made.total("relists") == 0


def test_a_network_that_swallows_everything_is_survived_and_told(
    control_plane: ControlPlane, proxy: Proxy, api: Api, playground: str, seed: int
) -> None:
    """No data and no close, on old connections and on new ones."""
    access = access_through(proxy, control_plane)
    with scene(proxy, api, playground, seed, access=access, timing=IMPATIENT) as (made, state):
        made.churn.changes(1)
        proxy.freeze()
        frozen_at = monotonic()
        made.churn.changes(3)
        assert eventually(lambda: len(made.watching.stale(1.5)) == len(PATHS), BOUND)
        looked_at = monotonic()
        for one in made.watching.freshness():
            assert one.age_seconds >= looked_at - frozen_at - 0.5
        Event().wait(Random(seed).uniform(0, 2))
        proxy.thaw()
        made.churn.changes(1)
        made.settle(state, bound=BOUND + IMPATIENT.question_read_timeout)


def test_a_list_that_takes_long_arrives_and_its_age_is_told(
    control_plane: ControlPlane, proxy: Proxy, api: Api, playground: str, slow_seed: int
) -> None:
    """It is as old as its question when it arrives, however whole it is."""
    access = access_through(proxy, control_plane)
    with scene(proxy, api, playground, slow_seed, access=access) as (made, state):
        made.churn.changes(1)
        made.settle(state)
        proxy.meet("watch", faults.answers(410, "Expired"), paths=[NODES.path])
        proxy.meet("list", faults.slow_answer(SLOW_LIST), paths=[NODES.path])
        proxy.drop()
        assert eventually(lambda: proxy.met == 2, BOUND)
        began = monotonic()
        with Storm(made.churn, every=0.3):
            while True:
                asked_at = monotonic()
                node = made.freshness()["Node"]
                if monotonic() - began > SLOW_LIST - 1.0:
                    break
                assert node.age_seconds >= asked_at - began - 0.5
                assert node.relists == 0
                Event().wait(0.2)
        made.settle(state, bound=BOUND + 1)
        assert eventually(lambda: made.freshness()["Node"].relists == 1, BOUND)


MIXTURE: tuple[tuple[str, Any], ...] = (
    *((case.verb, fault) for case in CASES.values() for fault in case.faults),
    *((case.verb, fault) for case in LISTS.values() for fault in case.faults),
)


def test_any_mixture_of_faults_ends_in_the_truth(
    control_plane: ControlPlane, proxy: Proxy, api: Api, playground: str, seed: int
) -> None:
    random = Random(seed)
    access = access_through(proxy, control_plane)
    with scene(proxy, api, playground, seed, access=access, timing=IMPATIENT) as (made, state):
        with Storm(made.churn, every=0.1):
            for _ in range(20 if LONG else 8):
                verb, fault = random.choice(MIXTURE)
                proxy.meet(verb, fault, paths=random.sample(PATHS, 4))
                if random.random() < 0.3:
                    proxy.drop()
                Event().wait(random.uniform(0, 0.4))
        assert proxy.met > 0
        proxy.forget()
        proxy.drop()
        made.settle(state, bound=3 * BOUND)
