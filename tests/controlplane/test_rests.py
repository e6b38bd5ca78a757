"""When a rest between changes fails: by what is certain of a wait, and what the machine held up."""

from __future__ import annotations

import itertools
import re
import time

import pytest

from tests.controlplane import rests
from tests.controlplane.rests import Rests
from tests.controlplane.run_queue import RunQueue
from tests.truth.bindings import World
from tests.truth.waiting import InVain
from tests.truth.waits import Look

WAITS = InVain(name="waits", nodes=("n",), kinds=frozenset())


class HeldUp(RunQueue):
    """A machine that holds up who acts for so many seconds of each wait."""

    def __init__(self, seconds: float) -> None:
        super().__init__(list)
        self._seconds = seconds

    def held_up(self, began: float, ended: float) -> float:
        return min(self._seconds, ended - began)


def rested(
    monkeypatch: pytest.MonkeyPatch, seconds: float, *, held_up: float = 0.0, every: float = 1.0
) -> Rests:
    """Look at a pod that waits for so long, in whole seconds, and is bound then."""
    monkeypatch.setattr(rests, "PAUSE_SECONDS", 0.0)
    began, moments = float(int(time.time()) + 1), itertools.count(0.0, every)

    def look() -> Look:
        after = next(moments)
        there = [WAITS] if after < seconds else []
        bound = {} if there else {"waits": began + seconds}
        at = began + after
        return Look(asked=at, answered=at, waiting=there, bound=bound)

    made = Rests(look, World(3.0), HeldUp(held_up))
    made.rest()
    return made


@pytest.mark.parametrize("every", [1.0, 100.0], ids=["looked at often", "looked at too late"])
def test_a_wait_of_over_ten_seconds_fails_whenever_it_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, every: float
) -> None:
    rested(monkeypatch, 10.0, every=every)
    with pytest.raises(AssertionError, match=r"could run and wait: waits on n for 1[12]\.0 s at"):
        rested(monkeypatch, 12.0, every=every)


def test_a_look_that_comes_late_fails_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    told = rested(monkeypatch, 2.0, every=30.0).longest()
    assert re.search(r"waits on n for 2\.0 s at the least, [34]\.\d s at the most", told)


def test_what_the_machine_held_up_is_allowed_up_to_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rested(monkeypatch, 30.0, held_up=20.0)
    with pytest.raises(AssertionError, match=r"held up by the machine for 20\.0 s"):
        rested(monkeypatch, 32.0, held_up=20.0)
    with pytest.raises(AssertionError, match=r"for 61\.0 s at the least"):
        rested(monkeypatch, 90.0, held_up=100.0)
