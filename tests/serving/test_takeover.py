"""Before a leader's first Binding, all that was bound before is known."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kubernetes.client import Configuration

from extender.serving import takeover as serving
from extender.verbs.takeover import Takeover
from extender.watch.access import Access
from extender.watch.client import Transport
from tests.watch.fake_apiserver import PODS, FakeApiserver


class Watch:
    """How far a watch of pods has come."""

    version: str | None = None


@pytest.fixture
def api() -> Iterator[FakeApiserver]:
    with FakeApiserver() as started:
        yield started


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def takeover(api: FakeApiserver, watch: Watch) -> Takeover:
    transport = Transport(Access(lambda: Configuration(host=api.url)))
    return serving.takeover(transport, lambda: watch.version)


def test_nothing_is_known_before_the_apiserver_was_asked(watch: Watch, takeover: Takeover) -> None:
    watch.version = "1000000"
    assert "has not told yet" in takeover.unknown("a")


def test_all_is_known_once_the_watch_has_come_to_where_the_apiserver_was(
    api: FakeApiserver, watch: Watch, takeover: Takeover
) -> None:
    api.put(PODS, "bound-before")
    takeover.ask("a")
    watch.version = str(api.revision - 1)
    assert "has not told yet of all" in takeover.unknown("a")
    watch.version = str(api.revision)
    assert takeover.unknown("a") == ""
    watch.version = None
    assert takeover.unknown("a") == "", "what was bound before stays known while it is listed anew"
    assert "has not told yet" in takeover.unknown("b")


def test_what_happens_later_in_a_term_need_not_be_known(
    api: FakeApiserver, watch: Watch, takeover: Takeover
) -> None:
    takeover.ask("a")
    watch.version = str(api.revision)
    api.put(PODS, "bound-by-this-leader")
    takeover.ask("a")
    assert takeover.unknown("a") == ""


def test_each_term_asks_anew(api: FakeApiserver, watch: Watch, takeover: Takeover) -> None:
    takeover.ask("a")
    watch.version = str(api.revision)
    assert "has not told yet" in takeover.unknown("b")
    api.put(PODS, "bound-by-another-leader")
    takeover.ask("b")
    assert "has not told yet of all" in takeover.unknown("b")
    watch.version = str(api.revision)
    assert takeover.unknown("b") == ""


def test_a_question_that_fails_opens_nothing_and_is_asked_again(
    api: FakeApiserver, watch: Watch, takeover: Takeover
) -> None:
    watch.version = str(api.revision)
    api.fail("list", lambda exchange: exchange.refuse(503, "ServiceUnavailable"))
    takeover.ask("a")
    assert "has not told yet" in takeover.unknown("a")
    takeover.ask("a")
    assert takeover.unknown("a") == ""
