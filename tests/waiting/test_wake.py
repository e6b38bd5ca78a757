"""Who is woken: exactly those that a change lets go somewhere, in order, and not in vain."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from extender.kube.objects import Pod
from extender.placement.policy import Policy
from extender.waiting.pods import UNSEEN_SECONDS, WaitingPods
from extender.waiting.wake import FIRST_RETRY_SECONDS, MISSED_RETRY_SECONDS
from tests.builders import LOADING, READY, claim, job, loader, loader_pod, node, pod, tmpfs, vllm
from tests.waiting.room import Room


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
    def prioritized(name: str, priority: int) -> Pod:
        plain = tmpfs(name, size="40Gi")
        return Pod(
            metadata=plain.metadata, spec=_with(plain.spec, priority=priority), status=plain.status
        )

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
    from extender.cluster.reservations import Reservation

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


def test_a_pod_that_could_not_be_told_is_told_again_within_a_second(room: Room) -> None:
    """Also where only the restart knows of it: the apiserver was away for a moment."""
    assert MISSED_RETRY_SECONDS == 1.0
    room.refuse(vllm("llama"))
    room.state.upsert(loader_pod("a", READY))
    for _ in range(3):
        assert room.woken() == ["llama"]
        room.now += 5.0  # so long it was tried
        room.pods.missed("uid-llama", room.now)
        assert room.woken() == []
        room.now += MISSED_RETRY_SECONDS
    assert room.woken() == ["llama"]
    room.now += 600
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


@pytest.mark.parametrize("end", ["bound", "deleted unseen"])
def test_a_pod_that_is_bound_or_gone_is_forgotten(room: Room, end: str) -> None:
    room.refuse(tmpfs("ram", size="20Gi"), "a", known=end == "bound")
    if end == "bound":
        room.state.upsert(tmpfs("ram", size="20Gi", on="a"))
    room.now += UNSEEN_SECONDS + 1
    room.pods.prune(room.state)
    assert len(room.pods) == 0


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
