"""Pods that filter would let go and that kube-scheduler refuses by its own rules, without a word.

Such is a queue behind GPUs: whoever is woken there is not asked about. It is woken again, seldom,
and keeps nobody waiting who could run.
"""

from __future__ import annotations

import pytest

from extender.waiting.wake import (
    FIRST_RETRY_SECONDS,
    LAST_RETRY_SECONDS,
    MOST_REPEATS,
    REPEATS_PER_SECOND,
)
from tests.builders import READY, loader_pod, node, tmpfs, vllm
from tests.waiting.room import Room

WRITE_SECONDS = 0.02
"""By the shipped ``waking.perSecond``."""

TAKER = tmpfs("taker", size="60Gi", on="m")
GIB = 2**30


class Queue(Room):
    """Pods that are woken in vain, and one on another node, with each write as long as it takes."""

    def __init__(self, pods: int, *, alike: bool = True) -> None:
        super().__init__()
        names = ("gpu-0", "gpu-1", "gpu-2")
        for name in (*names, "m"):
            self.state.upsert(node(name))
        self.state.upsert(TAKER)
        for number in range(pods):
            size = str(10 * GIB + (0 if alike else number))
            self.refuse(tmpfs(f"queued-{number:03}", size=size), *names)
        self.refuse(tmpfs("able", size="10Gi"), "m", created="2026-01-02T00:00:00Z")

    def round(self) -> list[str]:
        """Wake whom it is time to wake, for a second at most, and wait for the next second."""
        began, names = self.now, []
        for waiting in self.waker.due():
            self.pods.touched(waiting.request.uid, self.state)
            names.append(waiting.request.name)
            self.now += WRITE_SECONDS
            if self.now >= began + 1.0:
                return names
        self.now = began + 1.0
        return names


@pytest.mark.parametrize("alike", [True, False], ids=["of one kind", "each of its own kind"])
@pytest.mark.parametrize("seconds", [2, 30])
def test_who_could_run_waits_for_none_of_them(seconds: int, *, alike: bool) -> None:
    """Neither while they are woken for the first time nor later; all of them are older."""
    room = Queue(300, alike=alike)
    for _ in range(seconds):
        assert "able" not in room.round()
    room.state.delete(TAKER)
    assert "able" in room.round()


def test_they_are_woken_again_a_few_a_second_and_less_and_less() -> None:
    room = Queue(150)
    for _ in range(20):
        room.round()
    assert all(pod.touches for pod in room.pods.all() if pod.request.name != "able")
    written = [len(room.round()) for _ in range(int(4 * LAST_RETRY_SECONDS))]
    assert max(written) <= MOST_REPEATS
    assert sum(written[:60]) <= 60 * REPEATS_PER_SECOND + MOST_REPEATS
    last = written[int(-2 * LAST_RETRY_SECONDS) :]
    assert sum(last) <= 150 * len(last) / LAST_RETRY_SECONDS


def test_one_is_woken_at_once_where_a_node_opens_for_it(room: Room) -> None:
    """What kube-scheduler has against one node it need not have against the other."""
    room.refuse(vllm("llama"), "a", "b")
    room.state.upsert(loader_pod("a", READY))
    woken = 0
    while room.now < 1_200.0:
        woken += len(room.woken())
        room.now += 1.0
    assert woken == 6, "after 5, 10, 20, 40 and 80 s"
    room.state.upsert(loader_pod("b", READY))
    assert room.woken() == ["llama"]
    room.state.upsert(loader_pod("b", READY, name="again"))
    assert room.woken() == []


def test_one_that_is_asked_about_is_none_of_them_any_more(room: Room) -> None:
    room.refuse(vllm("llama"), "a")
    room.state.upsert(loader_pod("a", READY))
    for _ in range(100):
        room.woken()
        room.now += 1.0
    room.refuse(vllm("llama"), "a")
    assert room.woken() == ["llama"]
    room.now += FIRST_RETRY_SECONDS
    assert room.woken() == ["llama"]
