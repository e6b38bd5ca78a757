"""Telling over real HTTP: what the apiserver fails to take of one pod keeps nothing from others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from extender.explain.remarks import waiting_remarks
from extender.explain.volumes import Warned
from extender.kube.objects import Pod
from extender.placement.reasons import Reason
from extender.placement.verdict import Judge
from extender.serving.events import MOST_FAILURES, WAITED_SECONDS, Events
from extender.serving.told import AGAIN_SECONDS, HOUR
from extender.watch.client import connect
from tests.builders import node, pod, tmpfs, unplaced
from tests.serving.answering import Apiserver, answering, kubeconfig
from tests.waiting.room import Room


class Telling(Room):
    """Pods that have waited for long enough, and the events of a service, told by hand."""

    def __init__(
        self, apiserver: Apiserver, folder: Path, *, pods: int, per_hour: int = 600
    ) -> None:
        super().__init__()
        self.apiserver = apiserver
        self.state.upsert(node("a"))
        self.results: Counter[str] = Counter()
        self.events = Events(
            self.context,
            self.pods,
            connect(str(kubeconfig(apiserver.url, folder))),
            per_hour=per_hour,
            leads=lambda: True,
            count=lambda _, result: self.results.update([result]),
        )
        for number in range(pods):
            self.refuse(tmpfs(f"ram-{number}", size="90Gi"), "a")
        for waiting in self.pods.all():
            self.pods.add(msgspec.structs.replace(waiting, refused={"InsufficientMemory": 1}))
        self.now += WAITED_SECONDS

    def told(self) -> list[str]:
        """Look once; return the pods that something was said of, whether it was taken or not."""
        before = len(self.apiserver.seen)
        self.events.look()
        return [sent["regarding"]["name"] for _, _, sent in self.apiserver.seen[before:]]


@pytest.mark.parametrize("status", [500, 429, 0])
def test_one_pod_whose_event_fails_again_and_again_hides_no_other(
    tmp_path: Path, status: int
) -> None:
    with answering() as apiserver:
        room = Telling(apiserver, tmp_path, pods=3)
        apiserver.first = [status]
        assert room.told() == ["ram-0", "ram-1", "ram-2"]
        assert room.results == {"failed": 1, "told": 2}
        assert room.told() == []
        room.now += AGAIN_SECONDS
        assert room.told() == ["ram-0"]


def test_one_pod_of_which_it_cannot_be_told_what_to_say_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remarks(judge: Judge, refused: set[Reason]) -> Iterator[Warned]:
        if Reason.MODEL_LOADING in refused:
            raise ValueError
        return waiting_remarks(judge, refused)

    monkeypatch.setattr("extender.serving.events.waiting_remarks", remarks)
    with answering() as apiserver:
        room = Telling(apiserver, tmp_path, pods=2)
        first = room.pods.all()[0]
        room.pods.add(msgspec.structs.replace(first, refused={"ModelLoading": 1}))
        assert room.told() == ["ram-1"]


def killed(name: str = "killed") -> Pod:
    """Build a pod whose volume will have it killed."""
    container = {
        "name": "main",
        "image": "busybox:1.37",
        "resources": {"limits": {"memory": "4Gi"}},
        "volumeMounts": [{"name": "ram", "mountPath": "/ram"}],
    }
    volume = {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "20Gi"}}
    return pod(name, spec={"containers": [container], "volumes": [volume]})


@pytest.mark.parametrize("number", [1, MOST_FAILURES])
def test_what_is_to_be_said_of_a_pod_that_was_just_bound_is_said_once_it_is_taken(
    tmp_path: Path, number: int
) -> None:
    """It does not wait, so nobody asks about it again: also where a look ended with it."""
    with answering() as apiserver:
        room = Telling(apiserver, tmp_path, pods=0)
        names = [f"killed-{each}" for each in range(number)]
        for name in names:
            room.events.placed(room.context.request(killed(name)))
        apiserver.first = [503] * number
        assert room.told() == names
        assert room.told() == []
        room.now += AGAIN_SECONDS
        assert room.told() == names
        assert room.results == {"failed": number, "told": number}
        room.now += AGAIN_SECONDS
        assert room.told() == []


def test_a_pod_that_was_bound_when_the_hours_events_were_used_up_is_told_in_the_next(
    tmp_path: Path,
) -> None:
    with answering() as apiserver:
        room = Telling(apiserver, tmp_path, pods=2, per_hour=2)
        assert room.told() == ["ram-0", "ram-1"]
        room.events.placed(room.context.request(killed()))
        assert room.told() == []
        room.now += HOUR - AGAIN_SECONDS
        assert room.told()[0] == "killed"


def test_what_is_not_said_because_others_took_the_hours_events_is_counted(tmp_path: Path) -> None:
    with answering() as apiserver:
        room = Telling(apiserver, tmp_path, pods=5, per_hour=2)
        for _ in range(3):
            room.events.look()
        assert room.results == {"told": 2, "untold": 3}


def test_what_could_not_be_said_for_an_hour_is_left(tmp_path: Path) -> None:
    with answering() as apiserver:
        room = Telling(apiserver, tmp_path, pods=0)
        room.events.placed(room.context.request(killed()))
        apiserver.status = 503
        looks = 0
        for _ in range(100):
            looks += len(room.told())
            room.now += AGAIN_SECONDS
        apiserver.status = 201
        assert looks == HOUR / AGAIN_SECONDS + 1
        assert room.told() == []


def test_an_apiserver_that_fails_with_everything_is_asked_three_times_a_look(
    tmp_path: Path,
) -> None:
    with answering() as apiserver:
        room = Telling(apiserver, tmp_path, pods=7)
        apiserver.status = 503
        assert MOST_FAILURES == 3
        looks = [room.told() for _ in range(4)]
        assert [len(names) for names in looks] == [3, 3, 1, 0]
        assert room.results == {"failed": 7}


def test_a_pod_that_filter_was_not_asked_about_is_told_why_nobody_was_evicted_for_it(
    tmp_path: Path,
) -> None:
    """No node passed by kube-scheduler's own count, so that it does not wait for this program."""
    with answering() as apiserver:
        room = Telling(apiserver, tmp_path, pods=0)
        for name, says in (
            (
                "told",
                "0/1 nodes are available: 1 Insufficient cpu. no candidate node for preemption",
            ),
            ("not", "0/1 nodes are available: 1 Insufficient cpu."),
        ):
            waits = tmpfs(name)
            message = f"0/1 nodes are available: 1 Insufficient cpu. {says}"
            room.state.upsert(unplaced(waits, at=1000.0, says=message))
        room.now -= 1.0
        assert room.told() == [], "it has waited for a moment"
        room.now += 1.0
        assert room.told() == ["told"]
        ((_, _, sent),) = apiserver.seen
        assert (sent["reason"], sent["type"]) == ("EvictionsInVain", "Warning")
        assert room.told() == [], "once an hour"
