"""Telling over real HTTP: what the apiserver fails to take of one pod keeps nothing from others."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from extender.kube.objects import Condition, Pod
from extender.serving.events import MOST_FAILURES, WAITED_SECONDS, Events
from extender.serving.told import AGAIN_SECONDS
from extender.watch.client import connect
from tests.builders import node, tmpfs
from tests.serving.answering import Apiserver, answering, kubeconfig
from tests.waiting.room import Room


class Telling(Room):
    """Pods that have waited for long enough, and the events of a service, told by hand."""

    def __init__(self, apiserver: Apiserver, folder: Path, *, pods: int) -> None:
        super().__init__()
        self.apiserver = apiserver
        self.state.upsert(node("a"))
        self.results: Counter[str] = Counter()
        self.events = Events(
            self.context,
            self.pods,
            connect(str(kubeconfig(apiserver.url, folder))),
            per_hour=600,
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
            condition = Condition(type="PodScheduled", status="False", message=message)
            status = msgspec.structs.replace(waits.status, conditions=(condition,))
            made = msgspec.structs.replace(
                waits.metadata, creation_timestamp="1970-01-01T00:16:40Z"
            )
            spec = msgspec.structs.replace(waits.spec, scheduler_name="model-cache-scheduler")
            room.state.upsert(Pod(metadata=made, spec=spec, status=status))
        room.now -= 1.0
        assert room.told() == [], "it has waited for a moment"
        room.now += 1.0
        assert room.told() == ["told"]
        ((_, _, sent),) = apiserver.seen
        assert (sent["reason"], sent["type"]) == ("EvictionsInVain", "Warning")
        assert room.told() == [], "once an hour"
