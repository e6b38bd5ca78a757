"""For how long somebody waits in vain: what looks, Bindings and broken watches prove of it."""

from __future__ import annotations

import pytest

from extender.watch.resources import JOBS, NODES, PODS
from tests.controlplane.faults.sight import HALF_OPEN, Sight
from tests.truth.bindings import World, at_once
from tests.truth.waiting import InVain
from tests.truth.waits import Look, Wait, Waits

WAITS = InVain(name="waits", nodes=("n",), kinds=frozenset({PODS.path, NODES.path}))


def waits(*looks: Look, sight: Sight | None = None) -> list[Wait]:
    """Return the waits since 100.0, when the last change was answered."""
    found = Waits(World(3.0, sight.known_by if sight else at_once), quiet=100.0)
    for look in looks:
        found.looked(look)
    return list(found.all())


def look(asked: float, answered: float, *waiting: InVain, **bound: float) -> Look:
    return Look(asked=asked, answered=answered, waiting=waiting, bound=bound)


def at_least(sight: Sight, asked: float) -> float:
    """Return for how long the pod waited that is seen at once, and waits at a later look."""
    (wait,) = waits(look(100.0, 100.0, WAITS), look(asked, asked, WAITS), sight=sight)
    return wait.at_least


def test_a_wait_is_as_long_as_it_is_seen() -> None:
    assert at_least(Sight(), 110.5) == 10.5


def test_a_look_that_comes_late_makes_no_wait_longer_than_its_binding_shows() -> None:
    (wait,) = waits(look(100.1, 100.2, WAITS), look(113.0, 113.1, waits=101.0))
    assert wait.at_least == pytest.approx(101.0 - 100.2)
    assert wait.at_most == pytest.approx(102.0 - 100.0)


def test_a_binding_ends_a_long_wait_though_no_look_was_between() -> None:
    (wait,) = waits(look(100.1, 100.2, WAITS), look(113.0, 113.1, waits=112.0))
    assert wait.at_least == pytest.approx(112.0 - 100.2)
    assert wait.at_most == pytest.approx(113.0 - 100.0)


def test_where_no_binding_tells_a_wait_ends_between_two_looks() -> None:
    (wait,) = waits(look(100.1, 100.2, WAITS), look(105.0, 105.1, WAITS), look(108.0, 108.1))
    assert wait.at_least == pytest.approx(105.0 - 100.2)
    assert wait.at_most == pytest.approx(108.1 - 100.0)


def test_a_pod_that_can_run_later_waits_since_then() -> None:
    (wait,) = waits(look(100.1, 100.2), look(104.0, 104.2, WAITS), look(105.0, 105.1, WAITS))
    assert wait.at_least == pytest.approx(105.0 - 104.2)
    assert wait.earliest == 100.1


def test_a_pod_that_cannot_run_for_a_moment_waits_twice() -> None:
    one, other = waits(look(100.0, 100.1, WAITS), look(102.0, 102.1), look(104.0, 104.1, WAITS))
    assert (one.latest, other.since) == (102.1, 104.1)


def test_a_broken_watch_of_another_kind_excuses_nobody() -> None:
    sight = Sight()
    sight.broke(JOBS.path, 99.0, relists=True, lasts=HALF_OPEN)
    assert at_least(sight, 110.1) > 10.0


def test_a_broken_watch_excuses_until_it_has_to_be_mended() -> None:
    sight = Sight()
    sight.broke(PODS.path, 99.0, relists=True, lasts=HALF_OPEN)
    assert at_least(sight, 110.1) == 0.0
    assert at_least(sight, 99.0 + HALF_OPEN + 1.5 + 9.9) == pytest.approx(9.9)


@pytest.mark.parametrize("at", [50.0, 103.0])
def test_a_watch_that_broke_when_all_was_known_or_before_excuses_nobody(at: float) -> None:
    sight = Sight()
    sight.broke(PODS.path, at, relists=True)
    assert at_least(sight, 110.0) == 10.0


def test_a_watch_that_breaks_before_it_has_told_excuses_though_the_pod_was_seen_before() -> None:
    sight = Sight()
    found = Waits(World(3.0, sight.known_by), quiet=100.0)
    found.looked(look(100.0, 100.0, WAITS))
    sight.broke(PODS.path, 101.0, relists=True, lasts=HALF_OPEN)
    found.looked(look(120.0, 120.0, WAITS))
    assert [wait.at_least for wait in found.all()] == [0.0]
    sight.renewed(115.0)
    found.looked(look(121.0, 121.0, waits=121.0))
    assert [wait.at_least for wait in found.over] == [6.0]


def test_one_break_after_another_is_in_the_way_as_long_as_they_meet() -> None:
    sight = Sight()
    sight.broke(PODS.path, 99.0, relists=True, lasts=5.0)
    sight.broke(NODES.path, 104.0, relists=True, lasts=20.0)
    assert sight.known_by(100.0, WAITS.kinds) == 104.0 + 20.0 + 0.5 + 1.0


def test_a_process_that_has_just_listed_everything_knows_everything() -> None:
    sight = Sight()
    sight.broke(PODS.path, 99.0, relists=True, lasts=HALF_OPEN)
    sight.renewed(101.0)
    assert sight.known_by(100.0, WAITS.kinds) == 101.0
