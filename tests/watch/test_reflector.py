"""After any fault, the sink holds what the server would list."""

from __future__ import annotations

from random import Random
from time import sleep

import msgspec
import pytest

from extender.kube.objects import Node, ObjectMeta, Pod
from extender.watch.reflector import Timing
from extender.watch.resources import PODS as PODS_RESOURCE
from tests.watch import faults
from tests.watch.fake_apiserver import NODES, PODS, Exchange, FakeApiserver, Fault
from tests.watch.harness import QUICK, RecordingSink, eventually, watching


def same(api: FakeApiserver, sink: RecordingSink, timeout: float = 30.0) -> bool:
    return eventually(lambda: sink.state() == api.truth(NODES), timeout)


def churn(api: FakeApiserver, seed: int = 0, changes: int = 20) -> None:
    """Create, change and delete nodes."""
    random = Random(seed)
    for _ in range(changes):
        name = f"node-{random.randrange(6)}"
        if name in api.truth(NODES) and random.random() < 0.3:
            api.delete(NODES, name)
        else:
            api.put(NODES, name, spec={"unschedulable": random.random() < 0.5})


# -- the healthy way -----------------------------------------------------------------------------


def test_a_list_of_several_pages_and_the_events_after_it_arrive(
    api: FakeApiserver, sink: RecordingSink
) -> None:
    for number in range(10):
        api.put(NODES, f"node-{number}")
    with watching(api, sink) as watch:
        assert watch.wait_synced(30)
        assert sink.state() == api.truth(NODES)
        assert (api.count("list"), api.count("page")) == (1, 3)
        churn(api)
        assert same(api, sink)
        assert sink.replaced == 1


def test_changes_between_the_pages_of_a_list_are_not_lost(
    api: FakeApiserver, sink: RecordingSink
) -> None:
    for number in range(7):
        api.put(NODES, f"node-{number}")

    def meanwhile(_: Exchange) -> bool:
        api.delete(NODES, "node-0")
        api.put(NODES, "node-6", spec={"unschedulable": True})
        api.put(NODES, "node-7")
        return False

    api.fail("page", meanwhile)
    with watching(api, sink):
        assert same(api, sink)


def test_a_watch_that_reached_its_timeout_goes_on_without_a_list(
    api: FakeApiserver, sink: RecordingSink
) -> None:
    timing = Timing(first_watch=(1, 1), watch=(1, 1), calm=0.2)
    with watching(api, sink, timing=timing) as watch:
        assert eventually(lambda: api.count("watch") >= 3)
        churn(api)
        assert same(api, sink)
        (freshness,) = watch.freshness()
        assert (freshness.relists, freshness.failures) == (0, 0)


AUDITING = Timing(first_watch=(1, 1), watch=(1, 1), calm=0.2, audit=(0.5, 0.6))


def test_what_was_known_wrongly_is_counted_and_mended_by_an_audit(
    api: FakeApiserver, sink: RecordingSink
) -> None:
    for name in ("right", "wrong", "lost"):
        api.put(NODES, name)
    with watching(api, sink, timing=AUDITING) as watch:
        assert same(api, sink)
        sink.upsert(Node(metadata=ObjectMeta(name="wrong", resource_version="1")))
        sink.upsert(Node(metadata=ObjectMeta(name="phantom", resource_version="1")))
        sink.delete(Node(metadata=ObjectMeta(name="lost")))
        assert eventually(lambda: sum(watch.freshness()[0].drifted.values()) == 3)
        assert watch.freshness()[0].drifted == {"missing": 1, "phantom": 1, "different": 1}
        assert same(api, sink)
        assert watch.freshness()[0].failures == 0


def test_an_audit_finds_nothing_where_all_is_right_or_has_just_changed(
    api: FakeApiserver, sink: RecordingSink
) -> None:
    api.put(NODES, "still")
    with watching(api, sink, timing=AUDITING) as watch:
        assert same(api, sink)
        for number in range(2_000):
            if watch.freshness()[0].audits >= 3:
                break
            api.put(NODES, f"new-{number}")
            if number:
                api.delete(NODES, f"new-{number - 1}")
            sleep(0.03)
        assert watch.freshness()[0].audits >= 3
        assert set(watch.freshness()[0].drifted.values()) == {0}
        assert same(api, sink)


def test_finished_pods_are_not_asked_for(api: FakeApiserver, sink: RecordingSink) -> None:
    api.put(PODS, "a")
    with watching(api, sink, resources=(PODS_RESOURCE,)):
        assert eventually(lambda: bool(sink.state(Pod)) and api.count("watch") == 1)
    asked = [r.query.get("fieldSelector") for r in api.requests]
    assert asked == ["status.phase!=Succeeded,status.phase!=Failed"] * 2


def test_a_watch_asks_for_bookmarks_and_a_bounded_time(
    api: FakeApiserver, sink: RecordingSink
) -> None:
    with watching(api, sink, timing=Timing()):
        assert eventually(lambda: api.count("watch") == 1)
    query = api.requests[-1].query
    assert query["allowWatchBookmarks"] == "true"
    assert 20 <= int(query["timeoutSeconds"]) <= 40


def test_a_bookmark_moves_the_version_from_which_a_watch_goes_on(
    api: FakeApiserver, sink: RecordingSink
) -> None:
    with watching(api, sink) as watch:
        assert watch.wait_synced(30)
        api.put(PODS, "another-kind")
        api.put(PODS, "yet-another")
        assert eventually(lambda: watch.freshness()[0].last_error is None)
        assert eventually(lambda: api.count("watch") == 1)
        bookmarked = eventually(lambda: _resumed_at(api, api.revision), 60)
    assert bookmarked


def _resumed_at(api: FakeApiserver, revision: int) -> bool:
    sleep(3 * api.bookmark_every)  # give this connection the time for a bookmark
    api.drop()
    return any(
        r.verb == "watch" and r.query["resourceVersion"] == str(revision) for r in api.requests
    )


# -- faults of the watch -------------------------------------------------------------------------

GOES_ON: dict[str, tuple[Fault, ...]] = {
    "429 with Retry-After": (faults.answers(429, retry_after=1),),
    "500": (faults.answers(500),),
    "503 thrice": (faults.answers(503),) * 3,
    "reset before the head": (faults.reset_before_head,),
    "reset in mid-line": (faults.reset_mid_line,),
    "closed in mid-line": (faults.closed_mid_line,),
    "truncated JSON": (faults.truncated_json,),
    "ERROR 500": (faults.error_event(500),),
    "ERROR 429": (faults.error_event(429, retryAfterSeconds=1),),
    "ends at once": (faults.ends_at_once,) * 3,
    "unknown event type": (faults.unknown_event,),
    "duplicates": (faults.duplicates,),
    "split everywhere": (faults.split_everywhere,),
    "several events in one chunk": (faults.several_in_one_chunk,),
    "forbidden for a moment": (faults.answers(403, "Forbidden"),),
}
LISTS_ANEW: dict[str, tuple[Fault, ...]] = {
    "410": (faults.answers(410, "Expired"),),
    "ERROR 410": (faults.error_event(410, "Expired"),),
    "ERROR with reason alone": (faults.error_event(0, "Gone"),),
    "version that the server does not have": (
        faults.error_event(504, "Timeout", causes=[{"reason": "ResourceVersionTooLarge"}]),
    ),
    "400": (faults.answers(400, "BadRequest"),),
    "the same event is cut off twice": (faults.truncated_json, faults.truncated_json),
    "half open": (faults.half_open,),
    "out of order": (faults.old_event_again,),
}


@pytest.mark.parametrize("fault", GOES_ON)
def test_a_watch_goes_on_from_where_it_was(
    api: FakeApiserver, sink: RecordingSink, fault: str
) -> None:
    api.put(NODES, "node-0")
    api.fail("watch", *GOES_ON[fault])
    with watching(api, sink) as watch:
        assert watch.wait_synced(30)
        churn(api)
        assert same(api, sink)
        assert watch.freshness()[0].relists == 0
        assert sink.replaced == 1


@pytest.mark.parametrize("fault", LISTS_ANEW)
def test_a_watch_that_cannot_go_on_lists_anew(
    api: FakeApiserver, sink: RecordingSink, fault: str
) -> None:
    api.put(NODES, "node-0")
    api.fail("watch", *LISTS_ANEW[fault])
    with watching(api, sink) as watch:
        assert watch.wait_synced(30)
        churn(api)
        assert same(api, sink)
        assert eventually(lambda: watch.freshness()[0].relists == 1)
        churn(api, seed=1)
        assert same(api, sink)
        assert sum(r.verb == "list" and r.query.get("limit") != "1" for r in api.requests) <= 3


def test_an_unknown_event_type_is_counted_and_ignored(
    api: FakeApiserver, sink: RecordingSink
) -> None:
    api.fail("watch", faults.unknown_event)
    with watching(api, sink) as watch:
        api.put(NODES, "node-0")
        assert same(api, sink)
        assert eventually(lambda: watch.freshness()[0].unknown == 1)


def test_history_compacted_while_disconnected_leads_to_one_list(
    api: FakeApiserver, sink: RecordingSink
) -> None:
    with watching(api, sink) as watch:
        assert watch.wait_synced(30)
        api.down()
        churn(api)
        api.compact()
        api.up()
        assert same(api, sink)
        assert eventually(lambda: watch.freshness()[0].relists == 1)


def test_a_server_that_is_away_for_a_while_is_caught_up_with(
    api: FakeApiserver, sink: RecordingSink
) -> None:
    with watching(api, sink) as watch:
        assert watch.wait_synced(30)
        api.down()
        churn(api)
        assert eventually(lambda: watch.freshness()[0].last_error is not None)
        api.up()
        assert same(api, sink)
        assert watch.freshness()[0].relists == 0


def test_a_restored_etcd_with_older_versions_replaces_everything(
    api: FakeApiserver, sink: RecordingSink
) -> None:
    churn(api)
    with watching(api, sink) as watch:
        assert same(api, sink)
        saved = api.snapshot()
        churn(api, seed=1, changes=40)
        assert same(api, sink)
        api.down()
        api.restore(saved)
        api.up()
        assert same(api, sink)
        churn(api, seed=2)
        assert same(api, sink)
        assert watch.freshness()[0].relists == 1


def test_a_restored_etcd_that_has_overtaken_what_is_known_replaces_everything(
    api: FakeApiserver, sink: RecordingSink
) -> None:
    """Its version tells nothing then; that it was out of reach for some time does."""
    churn(api)
    with watching(api, sink, timing=msgspec.structs.replace(QUICK, outage=0.3)):
        assert same(api, sink)
        saved = api.snapshot()
        api.put(NODES, "node-lost")
        assert same(api, sink)
        known = api.revision
        api.down()
        api.restore(saved)
        churn(api, seed=1)
        assert api.revision > known
        sleep(0.5)
        api.up()
        assert same(api, sink)
        assert "node-lost" not in sink.state()


def test_the_events_of_a_backlog_do_not_make_a_kind_fresh(
    api: FakeApiserver, sink: RecordingSink
) -> None:
    """The first of them came long ago, and what is missing still may be old as well."""

    def one_event_alone(exchange: Exchange) -> None:
        exchange.begin()
        exchange.chunk(exchange.next_line())
        exchange.hang()

    timing = msgspec.structs.replace(QUICK, silence=(20.0, 20.0))
    with watching(api, sink, timing=timing) as watch:
        assert eventually(lambda: api.count("watch") == 1)
        api.down()
        for number in range(3):
            api.put(NODES, f"node-{number}")
        api.fail("watch", one_event_alone)
        sleep(1)
        api.up()
        assert eventually(lambda: set(sink.state()) == {"node-0"})
        assert watch.freshness()[0].age_seconds >= 1
        assert watch.freshness()[0].relists == 0
        api.drop()
        assert same(api, sink)
        assert eventually(lambda: watch.freshness()[0].age_seconds < 1)


def test_what_happened_during_a_long_list_is_a_backlog(
    api: FakeApiserver, sink: RecordingSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("extender.watch.reflector._LONG_LIST", 0.3)
    api.put(NODES, "node-0")
    api.fail("list", faults.slow(0.5))
    with watching(api, sink) as watch:
        assert same(api, sink)
        assert eventually(lambda: api.count("watch") == 1)
        verbs = [request.verb for request in api.requests]
        assert verbs == ["list", "list", "watch"]
        assert api.requests[1].query["limit"] == "1"
        assert watch.freshness()[0].relists == 0


def test_a_quiet_cluster_is_not_listed_again(api: FakeApiserver, sink: RecordingSink) -> None:
    """No bookmark comes where nothing at all happens; the version proves that nothing did."""
    with watching(api, sink) as watch:
        assert eventually(lambda: api.count("watch") >= 3)
        assert eventually(lambda: watch.freshness()[0].age_seconds < 2)
        assert watch.freshness()[0].relists == 0


# -- faults of the list --------------------------------------------------------------------------

LIST_FAULTS: dict[str, tuple[str, tuple[Fault, ...]]] = {
    "429": ("list", (faults.answers(429, retry_after=1),)),
    "500 twice": ("list", (faults.answers(500),) * 2),
    "reset": ("list", (faults.reset_before_head,)),
    "body cut off": ("list", (faults.truncated_list,)),
    "no JSON": ("list", (faults.broken_list,)),
    "slow": ("list", (faults.slow(1),)),
    "429 in a page": ("page", (faults.answers(429, retry_after=1),)),
    "500 in a page, twice": ("page", (faults.answers(500),) * 2),
    "reset in a page": ("page", (faults.reset_before_head,)),
    "body of a page cut off": ("page", (faults.truncated_list,)),
    "410 in a page": ("page", (faults.answers(410, "Expired"),)),
}


@pytest.mark.parametrize("fault", LIST_FAULTS)
def test_a_list_that_fails_is_had_in_the_end(
    api: FakeApiserver, sink: RecordingSink, fault: str
) -> None:
    for number in range(10):
        api.put(NODES, f"node-{number}")
    verb, sequence = LIST_FAULTS[fault]
    api.fail(verb, *sequence)
    with watching(api, sink) as watch:
        assert watch.wait_synced(30)
        assert sink.state() == api.truth(NODES)
        assert sink.replaced == 1


def test_a_page_that_failed_is_fetched_again_and_not_the_whole_list(
    api: FakeApiserver, sink: RecordingSink
) -> None:
    for number in range(10):
        api.put(NODES, f"node-{number}")
    api.fail("page", faults.answers(500))
    with watching(api, sink) as watch:
        assert watch.wait_synced(30)
        assert (api.count("list"), api.count("page")) == (1, 4)


def test_pages_that_expired_are_asked_for_at_once(api: FakeApiserver, sink: RecordingSink) -> None:
    for number in range(10):
        api.put(NODES, f"node-{number}")

    def expire(_: Exchange) -> bool:
        api.put(NODES, "node-late")
        api.compact()
        return False

    api.fail("page", expire)
    with watching(api, sink) as watch:
        assert watch.wait_synced(30)
        assert sink.state() == api.truth(NODES)
    lists = [r.query for r in api.requests if r.verb == "list"]
    assert "limit" in lists[0]
    assert "limit" not in lists[1]
    assert "resourceVersion" not in lists[1]


def test_what_is_known_stays_until_the_new_list_is_complete(
    api: FakeApiserver, sink: RecordingSink
) -> None:
    for number in range(10):
        api.put(NODES, f"node-{number}")
    seen: list[int] = []
    with watching(api, sink) as watch:
        assert watch.wait_synced(30)
        # Only then is the watch the one connection that is dropped, and the fault meets the next.
        assert eventually(lambda: api.count("watch") == 1)

        def note(_: object) -> bool:
            seen.append(len(sink.state()))
            return False

        api.fail("page", note)
        api.fail("watch", faults.answers(410, "Expired"))
        api.drop()
        assert eventually(lambda: watch.freshness()[0].relists == 1)
    assert seen == [10]


# -- odd objects ---------------------------------------------------------------------------------


def test_one_odd_object_does_not_cost_the_list(api: FakeApiserver, sink: RecordingSink) -> None:
    api.put(NODES, "node-0")
    api.put(NODES, "node-1", spec={"taints": "none"})
    api.put(NODES, "node-2")
    with watching(api, sink) as watch:
        assert watch.wait_synced(30)
        assert set(sink.state()) == {"node-0", "node-2"}
        assert watch.freshness()[0].unreadable == 1
    assert [(kind, metadata.name) for kind, metadata in sink.odd] == [("Node", "node-1")]


def test_an_object_that_becomes_odd_is_forgotten_and_comes_back_when_mended(
    api: FakeApiserver, sink: RecordingSink
) -> None:
    api.put(NODES, "node-0")
    with watching(api, sink) as watch:
        assert same(api, sink)
        api.put(NODES, "node-0", spec={"taints": 7})
        assert eventually(lambda: sink.state() == {})
        api.put(NODES, "node-0")
        assert same(api, sink)
        assert watch.freshness()[0].relists == 0


def test_the_deletion_of_an_odd_object_is_a_deletion(
    api: FakeApiserver, sink: RecordingSink
) -> None:
    api.put(NODES, "node-0")
    with watching(api, sink):
        assert same(api, sink)
        with api.changed:
            api.objects[NODES, "node-0"]["spec"] = {"taints": 7}
        api.delete(NODES, "node-0")
        assert eventually(lambda: sink.state() == {})
    assert sink.odd == []


@pytest.mark.parametrize("metadata", [7, None, [], {"name": 7}, {"labels": {"a": 1}}])
def test_an_object_without_usable_metadata_is_only_counted(
    api: FakeApiserver, sink: RecordingSink, metadata: object
) -> None:
    def fault(exchange: Exchange) -> bool:
        exchange.begin()
        exchange.event("ADDED", {"metadata": metadata, "spec": {"taints": 7}})
        for change in exchange.changes(30):
            exchange.event(change.type, change.object)
        return True

    api.fail("watch", fault)
    with watching(api, sink) as watch:
        api.put(NODES, "node-0")
        assert same(api, sink)
        assert eventually(lambda: watch.freshness()[0].unreadable == 1)


def test_a_sink_that_raises_once_is_mended_by_a_list(
    api: FakeApiserver, sink: RecordingSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sink.upsert
    failures = [ValueError("a fault of ours")]

    def upsert(obj: Node) -> None:
        if failures:
            raise failures.pop()
        real(obj)

    monkeypatch.setattr(sink, "upsert", upsert)
    with watching(api, sink) as watch:
        assert watch.wait_synced(30)
        api.put(NODES, "node-0")
        assert same(api, sink)
        assert eventually(lambda: watch.freshness()[0].relists == 1)


# -- all of it together --------------------------------------------------------------------------

CHAOS: tuple[Fault, ...] = (
    faults.answers(429),
    faults.answers(500),
    faults.answers(410, "Expired"),
    faults.error_event(410, "Expired"),
    faults.error_event(500),
    faults.reset_before_head,
    faults.reset_mid_line,
    faults.closed_mid_line,
    faults.truncated_json,
    faults.ends_at_once,
    faults.unknown_event,
    faults.duplicates,
    faults.old_event_again,
)


@pytest.mark.parametrize("seed", range(5))
def test_any_mixture_of_faults_under_churn_ends_in_the_truth(
    api: FakeApiserver, sink: RecordingSink, seed: int
) -> None:
    random = Random(seed)
    with watching(api, sink, timing=QUICK):
        for step in range(30):
            churn(api, seed=seed * 100 + step, changes=5)
            api.fail("watch", random.choice(CHAOS))
            api.fail("list", *random.choices(CHAOS[:3], k=random.randrange(2)))
            if random.random() < 0.3:
                api.drop()
            if random.random() < 0.1:
                api.compact()
            random_pause(random)
        api.faults["watch"].clear()
        api.drop()
        assert same(api, sink, timeout=60)


def random_pause(random: Random) -> None:
    eventually(lambda: False, random.uniform(0, 0.05))
