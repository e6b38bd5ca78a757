"""A complete list on its way into the state: small while it lasts, and nothing before its end."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from extender.cluster.state import ClusterState
from extender.kube.decode import decode
from extender.kube.draft import Draft
from extender.kube.objects import KubeObject, Pod
from tests.builders import READY, STOPPED, loader, loader_pod, node, relist, reporting_pod, tmpfs
from tests.clock import Clock

PAGES, PAGE = 10, 100


def pages() -> Iterator[list[KubeObject]]:
    """Yield pods as a real list has them: many of one Deployment, each an object of its own."""
    for number in range(PAGES):
        yield [decode(msgspec.json.encode(sized(number * PAGE + n)), Pod) for n in range(PAGE)]


def sized(number: int) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": "registry.example/app:v1",
        "args": ["--port", "8080"],
        "env": [{"name": f"SETTING_{n}", "value": "on"} for n in range(8)],
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
    }
    return {
        "metadata": {
            "name": f"app-{number}",
            "namespace": "inference",
            "uid": f"uid-{number}",
            "labels": {"app": "app", "pod-template-hash": "6d5f7c9b8"},
        },
        "spec": {"nodeName": "a", "containers": [container]},
        "status": READY,
    }


def held(take: Callable[[list[KubeObject]], None]) -> int:
    """Return the bytes that are held of all pages once they were taken."""
    tracemalloc.start()
    try:
        for page in pages():
            take(page)
        del page
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.fixture
def state() -> ClusterState:
    made = ClusterState(clock=Clock())
    made.upsert(node("a"))
    return made


def test_pods_that_are_listed_are_not_held_whole(state: ClusterState) -> None:
    """100,000 of them would be half a gigabyte, for as long as their list takes."""
    whole: list[KubeObject] = []
    everything = held(whole.extend)
    assert held(state.listing(Pod).add) < everything / 3
    relist(state, Pod, whole)
    assert held(state.listing(Pod).add) < everything / 20


def test_nothing_of_a_list_is_known_before_its_end(state: ClusterState) -> None:
    state.upsert(tmpfs("gone", on="a"))
    before = state.view()
    draft: Draft = state.listing(Pod)
    draft.add([tmpfs("one", on="a")])
    draft.add([tmpfs("two", on="a")])
    assert state.view().nodes is before.nodes
    assert draft.phantoms([]) == ["inference/gone"]
    assert draft.phantoms([tmpfs("gone")]) == []
    draft.replace()
    assert {pod.name for pod in state.pods()} == {"one", "two"}


def test_a_list_that_breaks_off_leaves_everything_as_it_was(state: ClusterState) -> None:
    state.upsert(loader())
    state.upsert(reporting_pod("a", READY, "{"))
    known, wrong = state.pods(), state.problems()
    assert wrong
    state.listing(Pod).add([tmpfs("one", on="a"), reporting_pod("a", READY, "{")])
    assert state.pods() == known
    assert state.problems() == wrong


def test_a_loader_pod_in_a_list_says_all_that_it_says_in_an_event(state: ClusterState) -> None:
    state.upsert(loader())
    relist(state, Pod, [loader_pod("a", READY)])
    (held_there,) = state.view().inventory.holdings()["a"]
    other = ClusterState(clock=state.now)
    for obj in (node("a"), loader(), loader_pod("a", READY)):
        other.upsert(obj)
    assert [held_there] == list(other.view().inventory.holdings()["a"])
    relist(state, Pod, [loader_pod("a", STOPPED)])
    assert state.view().inventory.holdings()["a"] != [held_there]
