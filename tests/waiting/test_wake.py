"""Who is woken: exactly those that a change lets go somewhere, in order, and not in vain."""

from __future__ import annotations

from itertools import islice
from typing import Any

import msgspec
import pytest

from extender.cluster.reservations import Reservation
from extender.kube.objects import Pod
from extender.placement.policy import Policy
from extender.waiting.pods import UNSEEN_SECONDS, WaitingPods
from extender.waiting.wake import FIRST_RETRY_SECONDS, MISSED_RETRY_SECONDS
from tests.builders import (
    LOADING,
    READY,
    claim,
    deleted,
    gated,
    job,
    loader,
    loader_pod,
    node,
    pod,
    tmpfs,
    vllm,
)
from tests.verbs.test_preempt import above, evicted, nominated, refused_there
from tests.waiting.room import Room

GIB = 2**30


def test_nobody_is_woken_while_nothing_changes(room: Room) -> None:
    room.refuse(vllm("llama"), "a", "b")
    assert room.woken() == []
    room.now += 60
    assert room.woken() == []


def test_a_model_that_became_ready_wakes_who_waits_for_it(room: Room) -> None:
    room.refuse(vllm("llama"), "a", "b")
    room.refuse(vllm("other", model="/models/gemma"), "a", "b")
    assert room.woken() == []
    room.state.upsert(loader_pod("b", READY))
    assert room.woken() == ["llama"]


def test_a_node_that_filter_was_not_asked_about_wakes_nobody(room: Room) -> None:
    """It failed in-tree, of which this program knows nothing: kube-scheduler wakes for that."""
    room.refuse(vllm("llama"), "a")
    room.state.upsert(loader_pod("b", READY))
    assert room.woken() == []


def test_memory_that_comes_back_wakes_as_many_as_it_holds(room: Room) -> None:
    room.state.upsert(tmpfs("taker", size="50Gi", on="a"))
    for number in range(4):
        room.refuse(tmpfs(f"ram-{number}", size="20Gi"), "a", created=f"2026-01-0{number + 1}")
    assert room.woken() == []
    room.state.delete(tmpfs("taker", size="50Gi", on="a"))
    assert room.woken() == ["ram-0", "ram-1", "ram-2"]


def test_the_highest_priority_is_woken_first_then_the_oldest(room: Room) -> None:
    room.state.upsert(tmpfs("taker", size="60Gi", on="a"))
    room.refuse(prioritized("young", 5), "a", created="2026-01-03T00:00:00Z")
    room.refuse(prioritized("old", 5), "a", created="2026-01-02T00:00:00Z")
    room.refuse(prioritized("high", 9), "a", created="2026-01-04T00:00:00Z")
    room.state.delete(tmpfs("taker", size="60Gi", on="a"))
    assert room.woken()[0] == "high"
    room.pods.drop("uid-high")
    assert [pod.request.name for pod in room.pods.all()] == ["old", "young"]


def _with(spec: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(spec, **fields)


def test_a_claim_that_is_bound_and_a_job_that_completes_wake(room: Room) -> None:
    room.state.upsert(claim(phase="Pending"))
    room.state.upsert(job("download"))
    room.refuse(vllm("c", volume={"persistentVolumeClaim": {"claimName": "model-store"}}), "a")
    room.state.upsert(claim())
    assert room.woken() == []
    room.state.upsert(job("download", ("Complete",)))
    assert room.woken() == ["c"]


def test_a_reservation_that_runs_out_wakes(room: Room) -> None:
    entry = Reservation(uid="x", node="a", bytes=60 * 2**30, expires=1_010.0, claim=1)
    room.state.hold(entry)
    room.refuse(tmpfs("ram", size="20Gi"), "a")
    assert room.woken() == []
    room.now = 1_010.0
    assert room.woken() == ["ram"]


def test_knowledge_that_is_fresh_again_wakes(room: Room) -> None:
    room.stale = ("Pod",)
    room.refuse(tmpfs("ram", size="20Gi"), "a")
    assert room.woken() == []
    room.stale = ()
    assert room.woken() == ["ram"]


@pytest.fixture
def impatient() -> Room:
    """Pods insist on a model that they can fetch for 100 s; nobody has it."""
    room = Room(Policy(required_timeout=100.0))
    for obj in (node("a"), loader(), loader_pod("a", LOADING)):
        room.state.upsert(obj)
    return room


def fetching(name: str, created: str) -> Pod:
    """Return a pod whose author requires a model that it downloads where it is missing."""
    annotations = {"modelcache.dev/need": "required"}
    server = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.11.0",
        "args": ["--model", "meta-llama/Llama-3.1-8B-Instruct"],
        "env": [{"name": "HF_HOME", "value": "/cache"}],
        "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
    }
    return pod(
        name,
        metadata={"annotations": annotations, "creationTimestamp": created},
        spec={
            "containers": [server],
            "volumes": [{"name": "cache", "hostPath": {"path": "/var/lib/models"}}],
        },
    )


def test_a_pod_whose_patience_ends_is_woken_at_once_and_no_younger_one(impatient: Room) -> None:
    """The clock alone does it: no node and no loader changes."""
    impatient.refuse(fetching("old", "1970-01-01T00:16:00Z"), "a")  # at 960 s of the clock
    impatient.refuse(fetching("young", "1970-01-01T00:16:30Z"), "a")
    impatient.refuse(vllm("cannot-fetch"), "a")
    assert impatient.woken() == []
    impatient.now = 1_059.5
    assert impatient.woken() == []
    impatient.now = 1_060.0  # half a second later: sooner than all nodes are judged again
    assert impatient.woken() == ["old"]
    impatient.pods.drop("uid-old")
    impatient.now = 1_090.0
    assert impatient.woken() == ["young"]
    impatient.now = 9_000.0
    impatient.pods.drop("uid-young")
    assert impatient.woken() == []


def test_a_pod_that_was_woken_in_vain_is_woken_again_later_and_later(room: Room) -> None:
    room.refuse(vllm("llama"), "a")
    room.state.upsert(loader_pod("a", READY))
    times = []
    for _ in range(130):
        if room.woken():
            times.append(room.now - 1_000.0)
        room.now += 1
    assert times == [0.0, 5.0, 15.0, 35.0, 75.0]
    assert FIRST_RETRY_SECONDS == 5.0


def test_a_pod_known_only_from_before_a_restart_is_woken_once(room: Room) -> None:
    room.refuse(vllm("llama"))
    room.state.upsert(loader_pod("a", READY))
    assert room.woken() == ["llama"]
    room.now += 600
    assert room.woken() == []


def test_a_pod_known_only_from_before_a_restart_waits_since_it_was_made(room: Room) -> None:
    """A wait of hours does not begin anew with every change of leader."""
    found = vllm("llama")
    spec = msgspec.structs.replace(found.spec, scheduler_name="model-cache-scheduler")
    made = msgspec.structs.replace(found.metadata, creation_timestamp="1970-01-01T00:02:00Z")
    room.state.upsert(msgspec.structs.replace(found, metadata=made, spec=spec))
    room.pods.recover(room.state, {"model-cache-scheduler"}, room.context.request_of)
    (waiting,) = room.pods.all()
    assert waiting.since == 120.0


@pytest.mark.parametrize("priority", [0, 1])
def test_a_pod_from_before_a_restart_that_could_evict_somebody_is_woken_once(
    room: Room, priority: int
) -> None:
    """Whom kube-scheduler would evict for it is forgotten, so it is to ask anew."""
    for name in ("a", "b"):
        room.state.upsert(tmpfs(f"serves-{name}", size="60Gi", on=name))
    waits = prioritized("llama", priority)
    spec = msgspec.structs.replace(waits.spec, scheduler_name="model-cache-scheduler")
    room.state.upsert(msgspec.structs.replace(waits, spec=spec))
    room.pods.recover(room.state, {"model-cache-scheduler"}, room.context.request_of)
    assert room.woken() == ["llama"] * priority
    room.now += 600
    assert room.woken() == []


def test_a_pod_that_could_not_be_told_is_told_again_within_a_second(room: Room) -> None:
    """Also where only the restart knows of it: the apiserver was away for a moment."""
    assert MISSED_RETRY_SECONDS == 1.0
    room.refuse(vllm("llama"))
    room.state.upsert(loader_pod("a", READY))
    for _ in range(3):
        assert room.woken() == ["llama"]
        room.now += 5.0  # so long it was tried
        room.pods.missed("uid-llama", room.state, reached=False)
        assert room.woken() == []
        room.now += MISSED_RETRY_SECONDS
    assert room.woken() == ["llama"]
    room.now += 600
    assert room.woken() == []


@pytest.mark.parametrize("seconds", [-4_000.0, 4_000.0])
def test_setting_the_clock_makes_nobody_wait_longer_or_shorter(room: Room, seconds: float) -> None:
    room.refuse(vllm("llama"), "a")
    room.refuse(vllm("unseen"), "a", known=False)
    room.state.upsert(loader_pod("a", READY))
    assert room.woken() == ["llama", "unseen"]
    room.set_by = seconds
    assert room.woken() == []
    room.now += FIRST_RETRY_SECONDS
    assert room.woken() == ["llama", "unseen"]


def test_a_pod_that_the_apiserver_will_not_take_is_told_of_seldomer_and_seldomer(
    room: Room,
) -> None:
    room.refuse(vllm("llama"), "a")
    room.state.upsert(loader_pod("a", READY))
    times = []
    for _ in range(200):
        if room.woken():
            times.append(room.now - 1_000.0)
            room.pods.missed("uid-llama", room.state, reached=True)
        room.now += 1
    assert times == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 123.0, 183.0]


def test_pods_that_cannot_be_told_keep_no_other_waiting(room: Room) -> None:
    """Each takes five seconds, and the cluster goes on changing: they would always be first."""
    for name in ("stuck-1", "stuck-2"):
        room.refuse(vllm(name), "a", created="2026-01-01T00:00:00Z")
    room.refuse(vllm("healthy"), "a", created="2026-01-02T00:00:00Z")
    room.state.upsert(loader_pod("a", READY))
    told = []
    for _ in range(4):
        for one in room.waker.due():
            told.append(one.request.name)
            room.pods.touched(one.request.uid, room.state)
            if one.request.name.startswith("stuck"):
                room.now += 5.0
                room.pods.missed(one.request.uid, room.state, reached=True)
            room.state.upsert(node(f"new-{len(told)}"))
    assert told[:3] == ["stuck-1", "stuck-2", "healthy"]


def test_a_pod_waits_too_for_nodes_on_which_no_eviction_was_worth_it(room: Room) -> None:
    room.refuse(vllm("llama"), "a")
    room.evict_nobody(vllm("llama"), "b")
    room.evict_nobody(vllm("other"), "b")
    room.state.upsert(loader_pod("b", READY))
    assert room.woken() == ["llama"]


@pytest.mark.parametrize("woken_before", [False, True])
def test_a_pod_that_was_to_evict_nobody_for_another_ones_sake_is_woken_when_that_is_decided(
    room: Room, *, woken_before: bool
) -> None:
    """Only kube-scheduler can tell whom it would evict now: no node has a place as it is."""
    room.refuse(vllm("llama"), "a")
    if woken_before:
        room.pods.touched("uid-llama", room.state)
    room.evict_nobody(vllm("llama"), "b", again_at=room.now + 5.0)
    room.now += 4.9
    assert room.woken() == []
    room.now += 0.1
    assert room.woken() == ["llama"]
    assert room.woken() == []


def test_a_pod_for_which_others_make_way_already_waits_for_that_room_alone(room: Room) -> None:
    """Another eviction would help it, too, and is not worth it as long as that one does."""
    leaves = evicted(tmpfs("leaves", size="40Gi", on="a"))
    high = nominated(above(tmpfs("high", size="40Gi")), "a")
    for one in (leaves, tmpfs("other", size="40Gi", on="b"), high):
        room.state.upsert(one)
    assert refused_there(room.context, high)
    room.refuse(high, "a")
    assert room.preempted(high, b=("uid-other",)) == set()
    assert room.woken() == []
    room.state.delete(leaves)
    assert room.woken() == ["high"]


def test_a_pod_that_could_not_be_told_of_a_decided_eviction_is_told_again(room: Room) -> None:
    room.refuse(vllm("llama"), "a")
    room.evict_nobody(vllm("llama"), "b", again_at=room.now)
    assert room.woken() == ["llama"]
    room.pods.missed("uid-llama", room.state, reached=False)
    assert room.woken() == []
    room.now += MISSED_RETRY_SECONDS
    assert room.woken() == ["llama"]
    assert room.woken() == []


def test_who_has_a_refused_pod_tried_again_is_told_apart(room: Room) -> None:
    assert room.pods.retried_by("uid-llama") is None
    room.refuse(vllm("llama"), "a", "b")
    assert room.pods.retried_by("uid-llama") == "scheduler"
    room.state.upsert(loader_pod("a", READY))
    assert room.woken() == ["llama"]
    assert room.pods.retried_by("uid-llama") == "woken"
    room.refuse(vllm("llama"), "a", "b")
    assert room.pods.retried_by("uid-llama") == "scheduler"


@pytest.mark.parametrize("end", ["bound", "being deleted", "deleted unseen"])
def test_a_pod_that_is_bound_or_gone_is_forgotten(room: Room, end: str) -> None:
    """One that is being deleted is bound no more, however long a finalizer keeps it."""
    room.refuse(tmpfs("ram", size="20Gi"), "a", known=end != "deleted unseen")
    if end == "bound":
        room.state.upsert(tmpfs("ram", size="20Gi", on="a"))
    elif end == "being deleted":
        room.state.upsert(deleted(tmpfs("ram", size="20Gi")))
    room.now += UNSEEN_SECONDS + 1
    room.pods.prune(room.state)
    assert len(room.pods) == 0


def test_a_pod_that_is_deleted_while_others_are_woken_is_not_woken(room: Room) -> None:
    room.refuse(tmpfs("first", size="20Gi"), "a", created="2026-01-01T00:00:00Z")
    room.refuse(tmpfs("second", size="20Gi"), "a", created="2026-01-02T00:00:00Z")
    due = room.waker.due()
    assert next(due).request.name == "first"
    room.state.upsert(deleted(tmpfs("second", size="20Gi")))
    assert list(due) == []


def test_after_a_restart_no_pod_that_is_being_deleted_waits(room: Room) -> None:
    room.state.upsert(deleted(tmpfs("ram", size="20Gi")))
    room.pods.recover(room.state, {""}, room.context.request_of)
    assert len(room.pods) == 0


def test_after_a_restart_no_pod_that_a_scheduling_gate_holds_back_waits(room: Room) -> None:
    """Nobody has refused it, and kube-scheduler tries it by itself once its last gate is gone."""
    room.state.upsert(gated(vllm("llama")))
    room.state.upsert(loader_pod("a", READY))
    room.pods.recover(room.state, {""}, room.context.request_of)
    assert room.woken() == []
    assert len(room.pods) == 0


def test_a_pod_that_is_refused_before_the_watch_tells_that_its_gates_are_gone_waits(
    room: Room,
) -> None:
    """kube-scheduler has heard of it a moment earlier, or it would not ask."""
    room.refuse(vllm("llama"), "a", "b")
    room.state.upsert(gated(vllm("llama")))
    room.state.upsert(loader_pod("a", READY))
    assert room.woken() == ["llama"]


def test_once_nobody_waits_no_view_of_the_past_is_kept(room: Room) -> None:
    waits = vllm("llama")
    room.refuse(waits, "a", "b")
    room.woken()
    assert room.waker._hopeless
    room.state.delete(waits)
    room.woken()
    assert room.waker._hopeless == {}


def test_a_pod_that_a_blind_watch_has_not_shown_is_not_forgotten(room: Room) -> None:
    room.refuse(tmpfs("ram", size="20Gi"), "a", known=False)
    room.now += UNSEEN_SECONDS + 1
    room.pods.prune(room.state, blind=True)
    assert len(room.pods) == 1


def test_the_number_of_waiting_pods_is_bounded() -> None:
    room = Room()
    pods = WaitingPods(size=10)
    for number in range(30):
        room.pods = pods
        room.refuse(tmpfs(f"ram-{number}"), "a")
    assert len(pods) == 10


def crowd(room: Room, number: int) -> None:
    """Refuse many pods of one tenant that are too large for the node."""
    for each in range(number):
        plain = tmpfs(f"theirs-{each}", size="100Gi")
        room.refuse(
            msgspec.structs.replace(
                plain, metadata=msgspec.structs.replace(plain.metadata, namespace="tenant")
            ),
            "a",
        )


def test_pods_of_one_namespace_push_none_of_another_out() -> None:
    room = Room()
    room.pods = WaitingPods(size=10)
    room.begin(Policy())
    room.state.upsert(node("a"))
    room.state.upsert(tmpfs("taker", size="60Gi", on="a"))
    room.refuse(tmpfs("able", size="10Gi"), "a")
    crowd(room, 30)
    assert (len(room.pods), room.pods.forgotten, room.pods.crowded) == (10, 21, "tenant")
    room.state.delete(tmpfs("taker", size="60Gi", on="a"))
    assert room.woken() == ["able"]


def test_a_namespace_whose_pods_are_refused_again_and_again_takes_no_turn_of_another() -> None:
    """Their loader comes and goes, say: whenever they are woken they are asked about in vain."""
    room = Room()
    room.state.upsert(node("a"))
    full = tmpfs("full", size="64Gi", on="a")
    room.state.upsert(full)
    theirs = {f"theirs-{n}": tmpfs(f"theirs-{n}", size="1Mi", memory="1Mi") for n in range(600)}
    for name, small in theirs.items():
        metadata = msgspec.structs.replace(small.metadata, namespace="tenant")
        theirs[name] = msgspec.structs.replace(small, metadata=metadata)
        room.refuse(theirs[name], "a", created="2026-01-01T00:00:00Z")
    for n in range(3):
        room.refuse(
            tmpfs(f"ours-{n}", size="1Mi", memory="1Mi"), "a", created="2026-01-02T00:00:00Z"
        )
    room.state.delete(full)
    woken: list[str] = []
    for waiting in islice(room.waker.due(), 6):
        name = waiting.request.name
        room.pods.touched(waiting.request.uid, room.state)
        woken.append(name)
        room.now += 0.02
        if name in theirs:
            room.refuse(theirs[name], "a", created="2026-01-01T00:00:00Z")
    assert woken[1::2] == ["ours-0", "ours-1", "ours-2"]
    assert set(woken[::2]) <= set(theirs), "the oldest comes first"


def test_the_namespace_comes_first_of_which_nobody_was_woken_for_longest() -> None:
    """However often it is planned anew, and however many there are."""
    room = Room()
    room.state.upsert(node("a"))
    full = tmpfs("full", size="64Gi", on="a")
    room.state.upsert(full)
    pods = {}
    for n in range(30):
        small = tmpfs(f"p-{n}", size="1Mi", memory="1Mi")
        metadata = msgspec.structs.replace(small.metadata, namespace=f"tenant-{n}")
        pods[f"p-{n}"] = msgspec.structs.replace(small, metadata=metadata)
        room.refuse(pods[f"p-{n}"], "a")
    room.state.delete(full)
    woken: list[str] = []
    while len(woken) < 30:
        for waiting in islice(room.waker.due(), 2):
            room.pods.touched(waiting.request.uid, room.state)
            woken.append(waiting.request.name)
            room.refuse(pods[waiting.request.name], "a")
        room.now += 0.5
    assert set(woken) == set(pods), "each once"


def prioritized(name: str, priority: int, size: str = "40Gi") -> Pod:
    plain = tmpfs(name, size=size)
    return msgspec.structs.replace(plain, spec=_with(plain.spec, priority=priority))


def test_a_pod_with_memory_of_its_own_is_not_judged_by_a_sibling_that_has_none(room: Room) -> None:
    """What bind reserved for it is free for it alone: its sibling's no is another."""
    entry = Reservation(uid="uid-second", node="a", bytes=50 * GIB, expires=1_300.0, claim=1)
    room.state.hold(entry)
    room.state.upsert(tmpfs("taker", size="60Gi", on="b"))
    room.refuse(tmpfs("first", size="40Gi"), "a", "b", created="2026-01-01T00:00:00Z")
    room.refuse(tmpfs("second", size="40Gi"), "a", "b", created="2026-01-02T00:00:00Z")
    assert room.woken() == ["second"]


def test_a_pod_without_memory_of_its_own_is_not_judged_by_a_sibling_that_has_some(
    room: Room,
) -> None:
    entry = Reservation(uid="uid-first", node="a", bytes=50 * GIB, expires=1_300.0, claim=1)
    room.state.hold(entry)
    room.state.upsert(tmpfs("taker", size="60Gi", on="b"))
    room.refuse(tmpfs("first", size="10Gi"), "a", "b", created="2026-01-01T00:00:00Z")
    room.refuse(tmpfs("second", size="10Gi"), "a", "b", created="2026-01-02T00:00:00Z")
    room.refuse(tmpfs("third", size="10Gi"), "a", "b", created="2026-01-03T00:00:00Z")
    assert room.woken() == ["first", "second"]


def test_a_hold_that_runs_out_wakes_whom_it_was_for_as_everybody_else(room: Room) -> None:
    room.state.upsert(tmpfs("taker", size="60Gi", on="b"))
    room.state.hold(Reservation(uid="uid-x", node="a", bytes=60 * GIB, expires=1_005.0))
    room.refuse(tmpfs("x", size="62Gi", memory="1Gi"), "a")
    room.refuse(tmpfs("y", size="62Gi", memory="1Gi"), "a", created="2026-01-02T00:00:00Z")
    assert room.woken() == ["x"]
    room.pods.drop("uid-x")
    room.state.delete(tmpfs("x"))
    assert room.woken() == ["y"]


def test_pods_of_one_template_with_different_demands_are_judged_apart(room: Room) -> None:
    """Where knowledge is old, only those with memory that nobody else counts need certainty."""
    plain = tmpfs("plain", size="20Gi")
    request = room.context.request(plain)
    seen = msgspec.structs.replace(request.demand, request=request.demand.bytes)
    counted = msgspec.structs.replace(request, uid="uid-counted", name="counted", demand=seen)
    room.refuse(plain, "a")
    waiting = room.pods.get("uid-plain")
    assert waiting is not None
    room.pods.add(msgspec.structs.replace(waiting, request=counted, created="2026-01-02"))
    room.stale = ("Pod",)
    assert room.woken() == ["counted"]


def test_a_more_urgent_pod_that_comes_while_others_are_woken_is_woken_next(room: Room) -> None:
    room.state.upsert(tmpfs("taker", size="60Gi", on="a"))
    for number in range(8):
        low = tmpfs(f"low-{number}", size="4Gi")
        room.refuse(low, "a", created=f"2026-01-0{number + 1}T00:00:00Z")
    room.state.delete(tmpfs("taker", size="60Gi", on="a"))
    names = []
    for waiting in room.waker.due():
        room.pods.touched(waiting.request.uid, room.state)
        names.append(waiting.request.name)
        room.now += 0.02
        if len(names) == 2:
            room.refuse(prioritized("high", 9, "4Gi"), "a", created="2026-02-01T00:00:00Z")
    assert names[:4] == ["low-0", "low-1", "high", "low-2"]
    assert len(names) == 9


@pytest.mark.parametrize("end", ["bound", "deleted", "asked about", "room taken", "node gone"])
def test_before_each_touch_it_is_looked_whether_the_pod_waits_and_has_a_place(
    room: Room, end: str
) -> None:
    room.state.upsert(loader_pod("a", READY))
    for number in range(3):
        room.refuse(vllm(f"llama-{number}"), "a", created=f"2026-01-0{number + 1}T00:00:00Z")
    walk = room.waker.due()
    assert next(walk).request.name == "llama-0"
    if end == "bound":
        room.state.upsert(vllm("llama-1", on="a"))
    elif end == "deleted":
        room.state.delete(vllm("llama-1"))
    elif end == "asked about":
        room.now += 1e-6
        room.refuse(vllm("llama-1"), "a", created="2026-01-02T00:00:00Z")
    elif end == "room taken":
        room.state.upsert(tmpfs("taker", size="63Gi", on="a"))
    else:
        room.state.delete(node("a"))
    left = [waiting.request.name for waiting in walk]
    assert left == ([] if end in {"room taken", "node gone"} else ["llama-2"])


def test_a_pod_that_the_watch_has_shown_and_shows_no_more_is_forgotten_at_once(room: Room) -> None:
    room.refuse(tmpfs("ram", size="20Gi"), "a")
    room.pods.prune(room.state)
    room.refuse(tmpfs("ram", size="20Gi"), "a", known=False)
    room.state.delete(tmpfs("ram", size="20Gi"))
    room.pods.prune(room.state)
    assert len(room.pods) == 0
