"""What the loader knows of the cluster stays known while the apiserver is away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from extender.errors import ExtenderError
from extender.loader.surroundings import ALL_NODES_SECONDS, OWN_NODE_SECONDS, Surroundings
from extender.report import WANTED_ANNOTATION, WISH_SECONDS, Wanted, WantedModel, write
from extender.watch.client import Transport
from extender.watch.paths import leases_path
from tests.clock import Clock
from tests.loader.cluster import ME, apiserver
from tests.loader.loader_process import wait_for
from tests.serving.answering import Apiserver
from tests.watch.fake_apiserver import FakeApiserver
from tests.watch.harness import access_to

GPU = {"gpu": "a100"}


class Asked:
    """Surroundings with a clock, and the apiserver that they ask."""

    def __init__(self, api: Apiserver, transport: Any) -> None:
        self.api = api
        self.clock = Clock(1000.0)
        self.surroundings = Surroundings(
            transport, ME, clock=self.clock, random=Random(0), changed=lambda: None
        )
        api.status = 200
        api.body = _node("node-1", GPU)

    def paths(self) -> list[str]:
        found = [path.partition("?")[0] for _, path, _ in self.api.seen]
        self.api.seen.clear()
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
    asked.api.body = {"items": [_node("node-2", GPU)], **_node("node-1", {})}
    assert asked.surroundings.nodes(every=True) == {"node-1": {}, "node-2": GPU}
    assert asked.paths() == ["/api/v1/nodes", "/api/v1/nodes/node-1"]
    asked.clock.now += ALL_NODES_SECONDS[0] - 1
    asked.surroundings.nodes(every=True)
    assert asked.paths() == ["/api/v1/nodes/node-1"]
    asked.clock.now += ALL_NODES_SECONDS[1]
    asked.surroundings.nodes(every=True)
    assert asked.paths() == ["/api/v1/nodes", "/api/v1/nodes/node-1"]


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
        assert news == [True]
        api.put(path, "loader.node-1", metadata={"annotations": {WANTED_ANNOTATION: "{"}})
        wait_for(lambda: surroundings.wanted() == Wanted())
        api.put(path, "loader.node-1", metadata={"annotations": annotations})
        wait_for(lambda: surroundings.wanted() == wanted)
        api.delete(path, "loader.node-1")
        wait_for(lambda: surroundings.wanted() == Wanted())
        surroundings.stop()
