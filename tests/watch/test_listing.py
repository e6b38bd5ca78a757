"""A complete list, page by page: nothing lost, nothing twice, odd objects apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from extender.kube.objects import KubeObject
from extender.watch.answers import UnreachableError
from extender.watch.client import Transport
from extender.watch.failures import RelistError, WatchFailedError
from extender.watch.listing import Take, Unreadable, list_all
from extender.watch.resources import NODES as NODES_RESOURCE
from extender.watch.resources import PODS as PODS_RESOURCE
from extender.watch.resources import Resource
from tests.watch import faults
from tests.watch.fake_apiserver import NODES, PODS, Exchange, FakeApiserver, Fault
from tests.watch.harness import access_to


class Pauses:
    """Waits for nothing, and remembers how long it was asked to; gives up after ``most``."""

    def __init__(self, most: int = 100) -> None:
        self.asked: list[float] = []
        self._most = most

    def __call__(self, at_least: float) -> None:
        self.asked.append(at_least)
        if len(self.asked) > self._most:
            raise WatchFailedError("stopped")


class Listed(NamedTuple):
    """A complete list with the objects that were taken of it."""

    version: str
    objects: list[KubeObject]
    unreadable: list[Unreadable]


def listed(
    api: FakeApiserver,
    *,
    page_size: int = 3,
    resource: Resource = NODES_RESOURCE,
    pause: Callable[[float], None] | None = None,
) -> Listed:
    objects: list[KubeObject] = []

    def begin() -> Take:
        objects.clear()
        return objects.extend

    listing = list_all(
        Transport(access_to(api)),
        resource,
        begin=begin,
        pause=pause or Pauses(),
        page_size=page_size,
        read_timeout=5,
    )
    assert listing.objects == len(objects)
    return Listed(listing.version, objects, listing.unreadable)


def fill(api: FakeApiserver, count: int = 10) -> None:
    for number in range(count):
        api.put(NODES, f"node-{number}")


def names(listing: Listed) -> list[str]:
    return [obj.metadata.name for obj in listing.objects]


# -- pages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [1, 2, 3, 10, 11, 500])
@pytest.mark.parametrize("count", [0, 1, 3, 10])
def test_every_object_is_listed_once_whatever_the_size_of_pages(
    api: FakeApiserver, count: int, page_size: int
) -> None:
    fill(api, count)
    listing = listed(api, page_size=page_size)
    assert names(listing) == [f"node-{number}" for number in range(count)]
    assert len(api.requests) == max(1, -(-count // page_size))


def test_the_version_is_that_of_the_first_page(api: FakeApiserver) -> None:
    """A watch from there on sees what changed while the other pages were fetched."""
    fill(api)
    version = str(api.revision)

    def meanwhile(_: Exchange) -> bool:
        api.put(NODES, "node-late")
        return False

    api.fail("page", meanwhile)
    assert listed(api).version == version


def test_every_page_asks_with_the_selectors_and_the_size(api: FakeApiserver) -> None:
    for number in range(5):
        api.put(PODS, f"pod-{number}")
    listed(api, page_size=2, resource=PODS_RESOURCE)
    selector = "status.phase!=Succeeded,status.phase!=Failed"
    assert [(r.query["fieldSelector"], r.query["limit"]) for r in api.requests] == [
        (selector, "2")
    ] * 3


def test_a_list_is_never_allowed_to_go_back_in_time(api: FakeApiserver) -> None:
    fill(api)
    listed(api)
    assert not any("resourceVersion" in request.query for request in api.requests)


# -- odd objects ---------------------------------------------------------------------------------

ODD: dict[str, dict[str, Any]] = {
    "a list that is a text": {"spec": {"taints": "none"}},
    "a map that is a number": {"status": {"allocatable": 7}},
    "labels that are no texts": {"metadata": {"labels": {"a": 1}}},
}


@pytest.mark.parametrize("position", [0, 2, 3, 9], ids="first before-a-cut after-it last".split())
@pytest.mark.parametrize("oddity", ODD)
def test_one_odd_object_never_costs_the_list(
    api: FakeApiserver, oddity: str, position: int
) -> None:
    fill(api)
    api.put(NODES, f"node-{position}", **ODD[oddity])
    listing = listed(api)
    assert names(listing) == [f"node-{n}" for n in range(10) if n != position]
    (odd,) = listing.unreadable
    assert odd.metadata is not None
    assert odd.metadata.name == f"node-{position}"
    assert odd.metadata.uid
    assert odd.error


def test_a_list_of_odd_objects_alone_is_a_complete_list(api: FakeApiserver) -> None:
    for number in range(5):
        api.put(NODES, f"node-{number}", spec=[])
    listing = listed(api)
    assert (listing.objects, len(listing.unreadable)) == ([], 5)
    assert listing.version == str(api.revision)


@pytest.mark.parametrize("item", ["null", "7", "[]", '"node"', "{}", '{"metadata":null}'])
def test_an_item_that_is_no_object_at_all_costs_nobody_else_anything(
    api: FakeApiserver, item: str
) -> None:
    body = '{"metadata":{"resourceVersion":"7"},"items":[%s,{"metadata":{"name":"node-0"}}]}' % item  # noqa: UP031
    api.fail("list", lambda exchange: exchange.reply(200, body.encode()))
    listing = listed(api)
    assert "node-0" in names(listing)
    assert len(listing.objects) + len(listing.unreadable) == 2


@pytest.mark.parametrize("items", ["null", "[]"])
def test_no_items_are_an_empty_list(api: FakeApiserver, items: str) -> None:
    body = f'{{"metadata":{{"resourceVersion":"7"}},"items":{items}}}'
    api.fail("list", lambda exchange: exchange.reply(200, body.encode()))
    assert listed(api) == Listed(version="7", objects=[], unreadable=[])


# -- faults --------------------------------------------------------------------------------------

NO_LIST: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b'{"metadata":{"resourceVersion":"1"},"items":[{',
    "a page of a proxy": b"<html>please log in</html>",
    "another shape": b"[]",
    "items that are no list": b'{"metadata":{"resourceVersion":"1"},"items":{}}',
    "no version": b'{"metadata":{},"items":[]}',
    "nested too deeply": b'{"items":' + b"[" * 100_000,
}


@pytest.mark.parametrize("case", NO_LIST)
def test_what_is_no_list_is_a_failure_and_never_an_empty_cluster(
    api: FakeApiserver, case: str
) -> None:
    api.fail("list", lambda exchange: exchange.reply(200, NO_LIST[case]))
    with pytest.raises(WatchFailedError):
        listed(api)


FIRST: dict[str, tuple[Fault, type[Exception]]] = {
    "429": (faults.answers(429, retry_after=3), WatchFailedError),
    "500": (faults.answers(500), WatchFailedError),
    "403": (faults.answers(403, "Forbidden"), WatchFailedError),
    "404": (faults.answers(404, "NotFound"), RelistError),
    "410": (faults.answers(410, "Expired"), RelistError),
    "reset": (faults.reset_before_head, UnreachableError),
    "cut off": (faults.truncated_list, UnreachableError),
}


@pytest.mark.parametrize("case", FIRST)
def test_a_first_page_that_fails_is_left_to_the_caller(api: FakeApiserver, case: str) -> None:
    fault, kind = FIRST[case]
    pauses = Pauses()
    api.fail("list", fault)
    with pytest.raises(kind):
        listed(api, pause=pauses)
    assert pauses.asked == []
    assert len(api.requests) == 1


@pytest.mark.parametrize("case", ["429", "500", "403", "reset", "cut off"])
def test_a_later_page_that_fails_is_asked_for_again_after_a_pause(
    api: FakeApiserver, case: str
) -> None:
    fill(api)
    pauses = Pauses()
    api.fail("page", FIRST[case][0])
    assert len(listed(api, pause=pauses).objects) == 10
    assert pauses.asked == [3.0 if case == "429" else 0.0]
    assert (api.count("list"), api.count("page")) == (1, 4)


def test_a_later_page_is_asked_for_four_times_and_then_given_up(api: FakeApiserver) -> None:
    fill(api)
    pauses = Pauses()
    api.always["page"] = faults.answers(500)
    with pytest.raises(WatchFailedError):
        listed(api, pause=pauses)
    assert (api.count("list"), api.count("page"), len(pauses.asked)) == (1, 4, 3)


def test_a_pause_may_give_up(api: FakeApiserver) -> None:
    fill(api)
    api.always["page"] = faults.answers(500)
    with pytest.raises(WatchFailedError, match="stopped"):
        listed(api, pause=Pauses(most=0))
    assert api.count("page") == 1


def test_pages_that_expire_are_replaced_by_one_answer_with_everything(api: FakeApiserver) -> None:
    fill(api)
    pauses = Pauses()
    api.fail("page", faults.answers(410, "Expired"))
    listing = listed(api, pause=pauses)
    assert names(listing) == [f"node-{number}" for number in range(10)]
    assert (api.count("list"), api.count("page")) == (2, 1)
    assert "limit" not in api.requests[-1].query
    assert pauses.asked == []


def test_objects_of_pages_that_expired_are_not_listed_twice(api: FakeApiserver) -> None:
    fill(api)
    api.put(NODES, "node-0", spec={"taints": 7})

    def expire(_: Exchange) -> bool:
        api.delete(NODES, "node-1")
        api.compact()
        return False

    api.fail("page", expire)
    listing = listed(api)
    assert names(listing) == [f"node-{number}" for number in range(2, 10)]
    assert len(listing.unreadable) == 1
    assert listing.version == str(api.revision)
