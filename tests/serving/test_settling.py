"""The threads that find out what became of Bindings in doubt."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event

import pytest

from extender.cluster.reservations import Reservation
from extender.cluster.state import ClusterState
from extender.kube.objects import Pod
from extender.serving.settling import Settling
from extender.verbs.doubt import AT_ONCE, Doubt
from tests.builders import node, tmpfs

DOUBTS = [
    Doubt(namespace=namespace, name=f"p{n}", uid=f"{namespace}-{n}", node="a", claim=n, seconds=0.0)
    for namespace in ("hanging", "inference")
    for n in range(1, 2 * AT_ONCE + 1)
]


class Apiserver:
    """Writes in one namespace hang; those in the other are answered, after one that fails."""

    def __init__(self) -> None:
        self.well = Event()
        self.failed: list[Doubt] = []

    def ask(self, doubt: Doubt) -> Pod | str | None:
        if doubt.namespace == "hanging":
            assert self.well.wait(60), "nobody hangs for so long"
        elif not self.failed:
            self.failed.append(doubt)
            raise OSError("a fault of this program")
        return tmpfs("ram")


@pytest.fixture
def apiserver() -> Iterator[Apiserver]:
    apiserver = Apiserver()
    yield apiserver
    apiserver.well.set()


def test_bindings_in_doubt_whose_writes_hang_keep_no_other_from_being_settled(
    apiserver: Apiserver,
) -> None:
    state, changed = ClusterState(clock=lambda: 1_000.0), Event()
    state.upsert(node("a", memory="640Gi"))
    for doubt in DOUBTS:
        entry = Reservation(
            uid=doubt.uid, node="a", bytes=2**30, expires=1_300.0, claim=doubt.claim
        )
        state.hold(entry)
    state.subscribe(changed.set)
    settling = Settling(state, apiserver.ask)
    for doubt in DOUBTS:
        settling.add(doubt)
    settling.start()
    try:
        while state.reserved() > 2 * AT_ONCE:
            assert changed.wait(30), "the memory of those that do not hang is given back"
            changed.clear()
        assert {doubt.uid for doubt in DOUBTS if state.has_reservation(doubt.uid)} == {
            doubt.uid for doubt in DOUBTS if doubt.namespace == "hanging"
        }
        assert len(apiserver.failed) == 1
        apiserver.well.set()
        while state.reserved():
            assert changed.wait(30), "those that hung are settled once they are answered"
            changed.clear()
    finally:
        settling.stop()
