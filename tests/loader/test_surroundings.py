"""What the loader knows of the cluster stays known while the apiserver is away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from extender.errors import ExtenderError
from extender.kube.times import time_text
from extender.loader.peers import SILENT_SECONDS
from extender.loader.surroundings import ALL_NODES_SECONDS, OWN_NODE_SECONDS, Surroundings
from extender.report import WANTED_ANNOTATION, WISH_SECONDS, Wanted, WantedModel, write
from extender.watch.client import Transport
from extender.watch.paths import leases_path, pods_path
from tests.clock import Clock
from tests.loader.cluster import ME, apiserver
from tests.loader.loader_process import wait_for
from tests.serving.answering import Apiserver
from tests.watch.fake_apiserver import FakeApiserver
from tests.watch.harness import access_to

GPU = {"gpu": "a100"}
LEASES, PODS = leases_path(ME.namespace), pods_path(ME.namespace)
START = 1_790_000_000.0


class Asked:
    """Surroundings with a clock, and the apiserver that they ask."""

    def __init__(self, api: Apiserver, transport: Any) -> None:
        self.api = api
        self._renewed: dict[str, str] = {}
        self.clock = Clock(1000.0)
        self.surroundings = Surroundings(
            transport, ME, clock=self.clock, random=Random(0), changed=lambda: None,
            wall=lambda: START + self.clock.now,
        )  # fmt: skip
        api.status = 200
        api.body = _node("node-1", GPU)

    def paths(self) -> list[str]:
        found = [path.partition("?")[0] for _, path, _ in self.api.seen]
        self.api.seen.clear()
        return found

    def nodes(self, *others: str) -> None:
        """Let there be these nodes beside its own, which have labels."""
        self.api.at["/api/v1/nodes"] = 200, {"items": [_node(name, GPU) for name in others]}
        self.api.body = _node("node-1", {})
        self.renewed()
        self.pods()

    def renewed(self, *nodes: str, by: float = 0.0) -> None:
        """Let these loaders renew their Leases now, the others not; their clocks are wrong."""
        for node in nodes:
            self._renewed[node] = time_text(START + self.clock.now + by)
        leases = [
            {"metadata": {"name": f"loader.{node}"}, "spec": {"renewTime": time}}
            for node, time in self._renewed.items()
        ]
        self.api.at[LEASES] = 200, {"items": leases}

    def pods(self, **created: float) -> None:
        """Let these nodes, and no other, have a loader's pod that was created then."""
        pods = [
            {
                "metadata": {"creationTimestamp": time_text(START + at)},
                "spec": {"nodeName": node},
            }
            for node, at in created.items()
        ]
        self.api.at[PODS] = 200, {"items": pods}

    def later(self) -> set[str]:
        """Return the nodes that have a loader, as they are known at the next look."""
        found = set(self.surroundings.nodes(every=True))
        self.clock.now += ALL_NODES_SECONDS[1]
        return found


def _node(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"uid-{name}", "labels": labels}}


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    with apiserver(tmp_path) as (api, transport):
        yield Asked(api, transport)


def test_its_own_node_is_asked_for_once_a_minute_and_no_other(asked: Asked) -> None:
    for _ in range(3):
        assert asked.surroundings.nodes(every=False) == {"node-1": GPU}
    assert asked.paths() == ["/api/v1/nodes/node-1"]
    assert asked.surroundings.node_uid == "uid-node-1"
    asked.clock.now += OWN_NODE_SECONDS
    asked.api.body = _node("node-1", {})
    assert asked.surroundings.nodes(every=False) == {"node-1": {}}


def test_all_nodes_are_listed_where_that_is_needed_and_seldom(asked: Asked) -> None:
    asked.nodes("node-2")
    asked.renewed("node-1", "node-2")
    assert asked.surroundings.nodes(every=True) == {"node-1": {}, "node-2": GPU}
    assert asked.paths() == ["/api/v1/nodes", LEASES, "/api/v1/nodes/node-1"]
    asked.clock.now += ALL_NODES_SECONDS[0] - 1
    asked.surroundings.nodes(every=True)
    assert asked.paths() == ["/api/v1/nodes/node-1"]
    asked.clock.now += ALL_NODES_SECONDS[1]
    asked.renewed("node-1", "node-2")
    asked.surroundings.nodes(every=True)
    assert asked.paths() == ["/api/v1/nodes", LEASES, "/api/v1/nodes/node-1"]


def test_a_node_without_a_loader_holds_none_of_the_copies(asked: Asked) -> None:
    asked.nodes("node-2", "tainted")
    asked.renewed("node-1", "node-2")
    assert asked.later() == {"node-1", "node-2"}
    asked.paths()
    asked.later()
    assert PODS not in asked.paths()  # nothing has changed: they are not asked for again


def test_a_loader_that_starts_again_moves_no_model_and_one_that_stays_away_does(
    asked: Asked,
) -> None:
    asked.nodes("node-2")
    asked.renewed("node-1", "node-2")
    asked.later()
    asked.renewed("node-1")
    assert asked.later() == {"node-1", "node-2"}  # silent since the last look: a reboot
    asked.renewed("node-1")
    assert asked.later() == {"node-1"}
    asked.renewed("node-1", "node-2")
    assert asked.later() == {"node-1", "node-2"}


def test_a_loader_that_never_spoke_counts_while_its_pod_is_young(asked: Asked) -> None:
    """All of them begin at once: the first must not think that it is alone."""
    asked.nodes("young", "old", "unschedulable")
    asked.renewed("node-1")
    asked.pods(young=asked.clock.now - 60, old=asked.clock.now - SILENT_SECONDS)
    assert asked.later() == {"node-1", "young"}
    for _ in range(4):  # and its image cannot be pulled
        asked.renewed("node-1")
        asked.later()
    assert asked.later() == {"node-1"}


def test_a_clock_that_is_wrong_elsewhere_silences_nobody_for_long(asked: Asked) -> None:
    asked.nodes("node-2")
    asked.renewed("node-1", "node-2", by=-86_400.0)
    assert asked.later() == {"node-1"}
    asked.renewed("node-1", "node-2", by=-86_400.0)
    assert asked.later() == {"node-1", "node-2"}


def test_itself_a_loader_counts_whatever_its_lease_says(asked: Asked) -> None:
    asked.nodes("node-2")
    asked.renewed()
    assert asked.later() == {"node-1"}


@pytest.mark.parametrize("every", [False, True])
def test_nothing_is_decided_before_the_nodes_are_known(asked: Asked, every: bool) -> None:
    asked.api.status = 403
    with pytest.raises(ExtenderError, match="right to get and list nodes"):
        asked.surroundings.nodes(every=every)


def test_what_is_known_holds_while_the_apiserver_is_away_and_is_not_asked_at_every_turn(
    asked: Asked,
) -> None:
    asked.surroundings.nodes(every=False)
    asked.clock.now += OWN_NODE_SECONDS
    asked.api.status = 0
    asked.paths()
    for _ in range(5):
        assert asked.surroundings.nodes(every=False) == {"node-1": GPU}
        asked.clock.now += 1
    assert len(asked.paths()) == 1
    with pytest.raises(ExtenderError):
        asked.surroundings.nodes(every=True)  # others were never known: copies cannot be counted


def following(
    api: FakeApiserver, clock: Clock, changed: Callable[[], None] = lambda: None
) -> Surroundings:
    transport = Transport(access_to(api))
    surroundings = Surroundings(transport, ME, clock=clock, random=Random(0), changed=changed)
    surroundings.start()
    return surroundings


@pytest.mark.parametrize("year", [1987, 2087], ids=["long ago", "far ahead"])
def test_a_wish_lasts_from_when_it_was_seen_whatever_the_clocks_say(year: int) -> None:
    """The extender's clock is wrong by decades, and the loader's own begins at nothing."""
    path, clock = leases_path(ME.namespace), Clock()

    def ask(day: int) -> None:
        wish = WantedModel(path="a", until=f"{year}-01-0{day}T00:00:00Z", pod="ml/x")
        annotations = {WANTED_ANNOTATION: write(Wanted(models=(wish,)))}
        api.put(path, "loader.node-1", metadata={"annotations": annotations})
        wait_for(lambda: surroundings.wanted().models == (wish,))

    with FakeApiserver() as api:
        surroundings = following(api, clock)
        ask(1)
        clock.now += WISH_SECONDS - 1
        assert surroundings.wanted().models
        ask(2)  # renewed
        clock.now += WISH_SECONDS - 1
        assert surroundings.wanted().models
        clock.now += 1
        assert surroundings.wanted() == Wanted()
        surroundings.stop()


def test_what_is_wanted_is_followed_on_its_own_lease() -> None:
    path = leases_path(ME.namespace)
    wanted = Wanted(models=(WantedModel(path="a", until="2030-01-01T00:00:00Z", pod="ml/x"),))
    news: list[bool] = []
    with FakeApiserver() as api:
        surroundings = following(api, Clock(), lambda: news.append(True))
        assert surroundings.wanted() == Wanted()
        annotations = {WANTED_ANNOTATION: write(wanted)}
        api.put(path, "loader.node-1", metadata={"annotations": annotations})
        wait_for(lambda: surroundings.wanted() == wanted)
        wait_for(lambda: news == [True])
        api.put(path, "loader.node-1", metadata={"annotations": {WANTED_ANNOTATION: "{"}})
        wait_for(lambda: surroundings.wanted() == Wanted())
        api.put(path, "loader.node-1", metadata={"annotations": annotations})
        wait_for(lambda: surroundings.wanted() == wanted)
        api.delete(path, "loader.node-1")
        wait_for(lambda: surroundings.wanted() == Wanted())
        surroundings.stop()
