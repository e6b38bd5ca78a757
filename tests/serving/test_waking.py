"""Waking over real HTTP: who is told, and what happens while the apiserver is not there."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from extender.cluster.state import ClusterState
from extender.config import ExtenderConfiguration
from extender.serving import awaiting, touching, waking
from extender.serving.knowledge import FileKnowledge
from extender.serving.service import Service, Verb
from extender.serving.waking import Waking
from extender.verbs.context import Context
from extender.waiting.pods import WaitingPods
from extender.waiting.wake import FIRST_RETRY_SECONDS
from extender.watch.client import connect
from tests.builders import node, tmpfs
from tests.controlplane.processes import free_port
from tests.serving.answering import answering, kubeconfig
from tests.verbs.test_preempt import above, nominated
from tests.waiting.room import Room
from tests.watch.harness import eventually

PODS = [f"ram-{number}" for number in range(3)]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for every answer, however slow the machine is."""
    monkeypatch.setattr(awaiting, "AWAITED_SECONDS", 60.0)


class Woken(Room):
    """Three pods that wait, and the waking of a service, done by hand."""

    def __init__(self, url: str, folder: Path, *, room_for: int = 100) -> None:
        super().__init__()
        self.pods = WaitingPods(size=room_for)
        self.state.upsert(node("a"))
        self.open = True
        self.term: str | None = "we"
        self.results: Counter[str] = Counter()
        self.counted = Event()
        self.taken_back: Counter[str] = Counter()
        self.waking = Waking(
            self.context,
            self.pods,
            connect(str(kubeconfig(url, folder))),
            schedulers=("",),  # which is what the pods of a test name
            per_second=1000.0,
            lead=self,
            count=self.count,
            count_taken_back=lambda result: self.taken_back.update([result]),
        )
        for name in PODS:
            self.refuse(tmpfs(name, size="20Gi"), "a")

    def count(self, result: str) -> None:
        self.results[result] += 1
        self.counted.set()

    def leads(self) -> bool:
        return self.open

    def caught_up(self) -> bool:
        return True


def test_everyone_who_could_run_is_told(tmp_path: Path) -> None:
    with answering() as apiserver:
        apiserver.status = 200
        room = Woken(apiserver.url, tmp_path)
        assert room.waking.wake()
    names = [path.split("/")[-2] for _, path, _ in apiserver.seen]
    assert names == PODS


def test_a_change_wakes_at_once_who_waits_also_after_nobody_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waking, "TICK_SECONDS", 3600.0)
    with answering() as apiserver:
        apiserver.status = 200
        room = Woken(apiserver.url, tmp_path)
        room.waking.start()
        try:
            room.waking.look()
            assert eventually(lambda: len(apiserver.seen) == len(PODS))
            for name in PODS:
                room.state.delete(tmpfs(name, size="20Gi"))
                room.pods.drop(name)
            room.state.upsert(tmpfs("taker", size="60Gi", on="a"))
            room.refuse(tmpfs("late", size="20Gi"), "a")
            room.state.delete(tmpfs("taker", size="60Gi", on="a"))
            assert eventually(lambda: len(apiserver.seen) == len(PODS) + 1)
        finally:
            room.waking.stop()


def test_an_apiserver_that_is_not_there_is_tried_with_one_pod_a_second(tmp_path: Path) -> None:
    room = Woken(f"http://127.0.0.1:{free_port()}", tmp_path)
    assert not room.waking.wake()  # the thread waits for a second then
    assert room.results == {"failed": 1}


@pytest.mark.parametrize("status", [403, 409, 500])
def test_a_refusal_of_one_pod_keeps_no_other_waiting(tmp_path: Path, status: int) -> None:
    with answering() as apiserver:
        apiserver.status = status
        room = Woken(apiserver.url, tmp_path)
        assert room.waking.wake()
    assert room.results == {"failed": len(PODS)}
    assert len(room.pods) == len(PODS)


def test_a_touch_that_hangs_keeps_no_other_waiting_and_counts_once_it_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(touching, "WRITE_SECONDS", 60.0)
    with answering() as apiserver:
        apiserver.status, apiserver.hangs = 200, f"/{PODS[0]}/"
        room = Woken(apiserver.url, tmp_path)
        monkeypatch.setattr(awaiting, "AWAITED_SECONDS", 0.01)
        room.waking.start()
        while sum(room.results.values()) < len(PODS) - 1:
            assert room.counted.wait(30)
            room.counted.clear()
        room.counted.clear()
        apiserver.released.set()
        assert room.counted.wait(30), "it is heard of at once"
        room.waking.stop()
    assert sum(room.results.values()) == len(PODS)
    assert room.results["failed"] == 0


def test_no_answer_is_waited_for_where_one_of_that_namespace_is_late_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An apiserver that takes its time is asked side by side: 500 pods would wait for a minute."""
    monkeypatch.setattr(touching, "WRITE_SECONDS", 60.0)
    with answering() as apiserver:
        apiserver.status, apiserver.hangs = 200, "/pods/"
        room = Woken(apiserver.url, tmp_path)
        monkeypatch.setattr(awaiting, "wait", lambda *_: waited.append(len(apiserver.seen)))
        waited: list[int] = []
        room.waking.wake()
        assert len(waited) == 1
        apiserver.released.set()
        assert eventually(
            lambda: room.waking.wake() and sum(room.results.values()) == len(PODS), 30
        )
        room.refuse(tmpfs("later", size="1Gi"), "a")
        room.waking.wake()
    assert len(waited) == 2, "it is quick again"
    assert room.results["failed"] == 0


def test_a_touch_that_is_never_answered_counts_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(touching, "WRITE_SECONDS", 0.01)
    with answering() as apiserver:
        apiserver.status, apiserver.hangs = 200, "/pods/"
        room = Woken(apiserver.url, tmp_path)
        monkeypatch.setattr(awaiting, "AWAITED_SECONDS", 0.0)
        room.waking.start()
        while not all(pod.misses for pod in room.pods.all()):
            room.counted.wait(1)
            room.counted.clear()
            room.now += 1.0  # else their namespace is left alone for ever
        room.waking.stop()
    assert room.results["failed"] >= len(PODS)
    assert room.results.keys() == {"failed"}


@pytest.mark.parametrize("status", [403, 0], ids=["refused", "hung up"])
def test_why_pods_are_not_woken_is_said_once_and_that_they_are_again(
    tmp_path: Path, status: int
) -> None:
    """They are tried again for as long as it lasts, thousands of them each minute."""
    with answering() as apiserver, capture_logs() as logs:
        apiserver.status = status
        room = Woken(apiserver.url, tmp_path)
        for _ in range(30):
            room.now += 10
            room.waking.wake()
        failed = room.results["failed"]
        assert failed > len(PODS)
        (line,) = (line for line in logs if "woken" in line["event"])
        assert line["event"].startswith("pod not woken")
        apiserver.status = 200
        logs.clear()
        room.now += 60
        room.waking.wake()
    (line,) = (line for line in logs if line["event"] == "pods can be woken again")
    assert line["failed"] == failed


def test_that_nothing_listens_is_said_once(tmp_path: Path) -> None:
    room = Woken(f"http://127.0.0.1:{free_port()}", tmp_path)
    with capture_logs() as logs:
        for _ in range(10):
            room.now += 10
            room.waking.wake()
    assert room.results["failed"] == 10
    assert len(logs) == 1


def test_a_pod_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    with answering() as apiserver:
        apiserver.status = 404
        room = Woken(apiserver.url, tmp_path)
        assert room.waking.wake()
    assert room.results == {"gone": len(PODS)}
    assert len(room.pods) == 0


def test_whoever_no_longer_leads_knows_of_no_waiting_pods_until_it_leads_again(
    tmp_path: Path,
) -> None:
    with answering() as apiserver:
        apiserver.status = 200
        room = Woken(apiserver.url, tmp_path)
        assert room.waking.wake()
        room.open, room.term = False, None
        assert room.waking.wake()
        assert len(room.pods) == 0
        room.state.upsert(tmpfs(PODS[0], size="20Gi", on="a"))
        room.open, room.term = True, "we again"
        assert room.waking.wake()
    assert [pod.request.name for pod in room.pods.all()] == PODS[1:]


def test_a_lead_that_is_in_doubt_for_a_moment_costs_no_pod_its_reason(tmp_path: Path) -> None:
    """The Lease was seen renewed too late, and nobody else has taken it."""
    with answering() as apiserver:
        apiserver.status = 200
        room = Woken(apiserver.url, tmp_path)
        assert room.waking.wake()
        told = len(apiserver.seen)
        room.open = False
        room.now += FIRST_RETRY_SECONDS
        assert room.waking.wake()
        assert len(apiserver.seen) == told
        room.open = True
        assert room.waking.wake()
    assert len(apiserver.seen) == 2 * told
    assert [pod.refused for pod in room.pods.all()] == [{"ModelLoading": 1}] * len(PODS)


def test_what_is_refused_before_it_leads_is_kept(tmp_path: Path) -> None:
    """kube-scheduler asks at once, and the fence opens seconds later."""
    with answering() as apiserver:
        room = Woken(apiserver.url, tmp_path)
        room.open = False
        assert room.waking.wake()
    assert len(room.pods) == len(PODS)


def test_a_touch_that_fails_takes_no_nomination_back_that_was_written_before(
    tmp_path: Path,
) -> None:
    with answering() as apiserver:
        apiserver.status = 200
        room = Woken(apiserver.url, tmp_path)
        assert room.waking.wake()
        kept = room.state.view().nodes["a"].reserved
        assert room.results["nominated"] == len(kept) == 1
        apiserver.status = 500
        room.now += 2.5  # half of the seconds for which the node is the pod's alone
        room.refuse(tmpfs(PODS[0], size="20Gi"), "a")
        assert room.waking.wake()
    assert room.results["failed"] == 1
    assert room.state.view().nodes["a"].reserved == kept


def test_a_nomination_that_leads_nowhere_is_taken_back(tmp_path: Path) -> None:
    with answering() as apiserver:
        apiserver.status = 200
        room = Woken(apiserver.url, tmp_path)
        meant = nominated(above(tmpfs("meant", size="20Gi")), "a")
        assert room.preempted(meant, b=("uid-nobody",)) == set()
        assert room.waking.wake()
    (method, _, body), *more = (seen for seen in apiserver.seen if "/pods/meant/" in seen[1])
    assert (method, more) == ("PATCH", [])
    assert {"op": "remove", "path": "/status/nominatedNodeName"} in body
    assert room.taken_back == {"written": 1}
    assert room.results["failed"] == 0


NOT_YOURS = {
    "reason": "Forbidden",
    "message": 'pods "meant-0" is forbidden: User "us" cannot patch resource "pods/status"',
    "details": {"name": "meant-0", "kind": "pods"},
}
NO_SUCH_CHANGE = {
    "reason": "Invalid",
    "message": "pods \"meant-0\" is forbidden: ValidatingAdmissionPolicy 'own' denied request: no",
    "details": {"name": "meant-0", "kind": "pods", "causes": [{"message": "no"}]},
}


@pytest.mark.parametrize(
    ("status", "said"),
    [(403, NOT_YOURS), (422, NO_SUCH_CHANGE)],
    ids=["without the right", "against a policy"],
)
def test_why_nominations_stay_is_said_once_for_each_cause_and_that_they_go_again(
    tmp_path: Path, status: int, said: Any
) -> None:
    """They are tried again for as long as they stay, each once a minute."""
    with answering() as apiserver, capture_logs() as logs:
        apiserver.status = 200
        room = Woken(apiserver.url, tmp_path)
        room.waking.wake()
        meant = [nominated(above(tmpfs(f"meant-{n}", size="60Gi")), "a") for n in range(3)]
        for pod in meant:
            room.preempted(pod, b=("uid-nobody",))

        def told() -> list[str]:
            """Let ten minutes pass; return what was logged of nominations."""
            logs.clear()
            for _ in range(60):
                room.now += 10
                room.waking.wake()
            return [line["event"] for line in logs if "nomination" in line["event"]]

        apiserver.status, apiserver.body = status, said
        assert told() == ["nomination not taken back; it keeps others out"]
        assert told() == []
        assert room.pods.lost.count() == 3
        apiserver.status = 500
        assert told() == ["nomination not taken back; it keeps others out"]
        apiserver.status = 200
        taken = "nomination that led nowhere taken back"
        assert told() == [taken, "nominations can be taken back again", taken, taken]
        assert room.pods.lost.count() == 0
        room.preempted(meant[0], b=("uid-nobody",))
        apiserver.status = 403
        assert told() == ["nomination not taken back; it keeps others out"], "it is another time"
    assert room.taken_back["written"] == 3


def test_a_nomination_that_is_another_one_by_now_is_none_to_take_back(tmp_path: Path) -> None:
    """A test of the patch fails: the apiserver does not name the object then."""
    with answering() as apiserver, capture_logs() as logs:
        apiserver.status, apiserver.body = 422, {"reason": "Invalid", "details": {}}
        room = Woken(apiserver.url, tmp_path)
        room.preempted(nominated(above(tmpfs("meant", size="60Gi")), "a"), b=("uid-nobody",))
        room.waking.wake()
    assert room.taken_back == {"overtaken": 1}
    assert room.pods.lost.count() == 0
    assert not [line for line in logs if "nomination" in line["event"]]


def test_what_is_held_for_a_pod_is_free_again_when_it_is_refused_everywhere() -> None:
    """It does not go where it was expected: kube-scheduler has not even asked about that node."""
    state = ClusterState(clock=lambda: 1_000.0)
    for name in ("a", "b"):
        state.upsert(node(name))
    state.upsert(tmpfs("taker", size="60Gi", on="b"))
    service = Service(Context(state=state), FileKnowledge(), ExtenderConfiguration())

    def ask(verb: Verb, name: str, on: str) -> Any:
        pod = msgspec.to_builtins(tmpfs(name, size="40Gi"))
        return json.loads(verb(json.dumps({"Pod": pod, "NodeNames": [on]}).encode()))

    ask(service.prioritize, "first", "a")
    assert ask(service.filter, "second", "a")["NodeNames"] == []
    assert ask(service.filter, "first", "b")["NodeNames"] == []
    assert ask(service.filter, "second", "a")["NodeNames"] == ["a"]


def test_that_pods_are_forgotten_for_want_of_room_is_said_once_and_so_is_its_end(
    tmp_path: Path,
) -> None:
    with answering() as apiserver, capture_logs() as logs:
        apiserver.status = 200
        room = Woken(apiserver.url, tmp_path, room_for=2)
        for _ in range(3):
            room.refuse(tmpfs(PODS[0], size="20Gi"), "a")
            room.waking.wake()
        for name in PODS[:2]:
            room.state.delete(tmpfs(name, size="20Gi"))
        for _ in range(3):
            room.waking.wake()
    said = [entry for entry in logs if "forgotten" in entry["event"]]
    assert [entry["log_level"] for entry in said] == ["warning", "info"]
    assert (said[0]["namespace"], said[0]["waiting"]) == ("inference", 2)
    assert "ResourceQuota" in said[0]["remedy"]
    assert [pod.request.name for pod in room.pods.all()] == PODS[2:]
