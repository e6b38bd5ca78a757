"""The laws about Bindings can be broken: each by a Binding that breaks nothing else."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal

import pytest

from extender.kube.times import time_text
from extender.watch.resources import NODES, PODS
from tests.truth.bindings import (
    ARRIVAL_SECONDS,
    SENDING_SECONDS,
    Bindings,
    BrokenLawError,
    World,
)
from tests.truth.memory import Object
from tests.truth.past import Sent

BEGIN = 1_767_225_600.0
GIB = 2**30
GRACE = 3.0
SLACK = ARRIVAL_SECONDS + SENDING_SECONDS
READER = "vllm"
LABEL = "ours"


def at(seconds: float) -> Sent:
    """Return a change that was asked for at a moment, and answered a tenth of a second later."""
    return Sent(BEGIN + seconds, BEGIN + seconds + 0.1)


@pytest.fixture
def world() -> World:
    """One node of 32 GiB, of which nothing else was told yet."""
    made = World(GRACE)
    made.allocatable["n"].became(at(-100), to=Decimal(32 * GIB))
    return made


@pytest.fixture
def bindings(world: World) -> Bindings:
    return Bindings(world, label=LABEL, reads_cache=READER)


def bound(
    name: str,
    second: int,
    gib: int = 0,
    *,
    container: str = "main",
    claim: str = "",
    ours: bool = True,
    phase: str = "Running",
) -> Object:
    """Return a pod that was bound to the node in a second."""
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}] if claim else []
    scheduled = {
        "type": "PodScheduled",
        "status": "True",
        "lastTransitionTime": time_text(BEGIN + second),
    }
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": {LABEL: ""} if ours else {}},
        "spec": {
            "nodeName": "n",
            "volumes": volumes,
            "containers": [{"name": container, "resources": {"requests": {"memory": f"{gib}Gi"}}}],
        },
        "status": {"phase": phase, "conditions": [scheduled]},
    }


def reads(second: int) -> Object:
    return bound("reader", second, container=READER)


def look(bindings: Bindings, *pods: Object, second: float = 1000.0) -> None:
    bindings.listed(pods, BEGIN + second)


# -- memory --------------------------------------------------------------------------------------


def test_memory_that_is_given_twice_is_seen(bindings: Bindings) -> None:
    with pytest.raises(BrokenLawError, match=r"n had 32\.00 GiB when two was .* 40\.00 GiB may"):
        look(bindings, bound("one", 1, 20), bound("two", 2, 20))


def test_two_pods_of_one_second_are_judged_together(bindings: Bindings) -> None:
    with pytest.raises(BrokenLawError):
        look(bindings, bound("one", 1, 20), bound("two", 1, 20))


def test_a_pod_that_came_in_the_second_in_which_another_was_evicted_may_have_its_place(
    bindings: Bindings,
) -> None:
    evicted = bound("evicted", 1, 20)
    bindings.deleted(evicted, BEGIN + 1.4)
    look(bindings, bound("next", 1, 20), second=2)
    with pytest.raises(BrokenLawError):
        look(bindings, bound("next", 1, 20), bound("later", 2, 20), second=3)


def test_a_broken_law_is_told_once(bindings: Bindings) -> None:
    pods = [bound("one", 1, 20), bound("two", 1, 20)]
    with pytest.raises(BrokenLawError):
        look(bindings, *pods)
    look(bindings, *pods)


def test_pods_that_have_the_room_pass(bindings: Bindings) -> None:
    look(bindings, bound("one", 1, 20), bound("two", 2, 12))
    assert bindings.judged == 2


def test_a_pod_that_was_deleted_before_leaves_its_room(bindings: Bindings) -> None:
    look(bindings, first := bound("one", 1, 20), second=2)
    bindings.deleted(first, BEGIN + 4)
    look(bindings, bound("two", 5, 20))


def test_a_pod_that_was_deleted_later_was_there_all_the_same(bindings: Bindings) -> None:
    look(bindings, first := bound("one", 1, 20), second=2)
    bindings.deleted(first, BEGIN + 9)
    with pytest.raises(BrokenLawError):
        look(bindings, bound("two", 5, 20))


def test_a_pod_that_nobody_listed_before_it_went_is_judged(bindings: Bindings) -> None:
    look(bindings, one := bound("one", 1, 20), second=2)
    bindings.deleted(bound("two", 3, 20), BEGIN + 5)
    with pytest.raises(BrokenLawError):
        look(bindings, one, second=6)


def test_a_pod_that_others_evicted_before_is_not_held_against_one_that_nobody_listed(
    bindings: Bindings,
) -> None:
    look(bindings, bound("one", 1, 20), second=2)
    bindings.deleted(bound("two", 3, 20), BEGIN + 5)
    bindings.went("uid-one", BEGIN + 2.5)
    look(bindings, second=6)
    assert bindings.judged == 2


def test_a_pod_that_has_ended_takes_nothing(bindings: Bindings) -> None:
    look(bindings, bound("one", 1, 20), second=2)
    look(bindings, bound("one", 1, 20, phase="Succeeded"), bound("two", 5, 20))


def test_what_others_bind_counts_once_it_has_to_be_known(bindings: Bindings) -> None:
    theirs = bound("theirs", 1, 20, ours=False)
    look(bindings, theirs, bound("one", int(SLACK) + 1, 20), second=20)
    with pytest.raises(BrokenLawError):
        look(bindings, theirs, bound("two", int(SLACK) + 3, 20))


def test_a_node_that_got_smaller_counts_as_it_was_until_that_has_to_be_known(
    bindings: Bindings, world: World
) -> None:
    world.allocatable["n"].became(at(10), to=Decimal(16 * GIB))
    look(bindings, bound("one", int(10 + SLACK), 20), second=17)
    bindings.deleted(bound("one", int(10 + SLACK), 20), BEGIN + 17.5)
    with pytest.raises(BrokenLawError, match=r"n had 16\.00 GiB"):
        look(bindings, bound("two", int(11 + SLACK) + 2, 20))


def test_a_node_that_gets_larger_later_is_no_excuse(bindings: Bindings, world: World) -> None:
    world.allocatable["n"].became(at(10), to=Decimal(64 * GIB))
    with pytest.raises(BrokenLawError):
        look(bindings, bound("one", 5, 40))


# -- models --------------------------------------------------------------------------------------


def test_a_pod_without_its_model_is_seen(bindings: Bindings) -> None:
    with pytest.raises(BrokenLawError, match="reader was bound to n, which had no model"):
        look(bindings, reads(1))


def test_a_pod_whose_model_came_later_is_seen(bindings: Bindings, world: World) -> None:
    world.loaded["n"].became(at(10), to=True)
    with pytest.raises(BrokenLawError):
        look(bindings, reads(8))


def test_a_pod_whose_model_is_there_passes(bindings: Bindings, world: World) -> None:
    world.loaded["n"].became(at(10), to=True)
    look(bindings, reads(10))


@pytest.mark.parametrize(("after", "broken"), [(GRACE + SLACK, False), (GRACE + SLACK + 2, True)])
def test_what_a_loader_left_counts_for_the_grace_and_no_longer(
    bindings: Bindings, world: World, after: float, broken: bool
) -> None:
    world.loaded["n"].became(at(10), to=True)
    world.loaded["n"].became(at(20), to=False)
    if not broken:
        look(bindings, reads(20 + int(after)))
        return
    with pytest.raises(BrokenLawError):
        look(bindings, reads(20 + int(after)))


@pytest.mark.parametrize(("second", "broken"), [(15, False), (9, True), (40, True)])
def test_without_any_loader_nobody_can_tell(
    bindings: Bindings, world: World, second: int, broken: bool
) -> None:
    world.owned.became(at(10.5), to=False)
    world.owned.became(at(20), to=True)
    if not broken:
        look(bindings, reads(second))
        return
    with pytest.raises(BrokenLawError):
        look(bindings, reads(second))


@pytest.mark.parametrize(("second", "broken"), [(5, False), (18, True), (30, False)])
def test_a_claim_counts_once_it_is_filled(
    bindings: Bindings, world: World, second: int, broken: bool
) -> None:
    world.filled["store"].became(at(1), to=False)
    world.filled["store"].became(at(29), to=True)
    pod = bound("reader", second, claim="store")
    if not broken:
        look(bindings, pod)
        return
    with pytest.raises(BrokenLawError, match="reader was bound to n before store was filled"):
        look(bindings, pod)


# -- sight ---------------------------------------------------------------------------------------


def blind(began: float, ended: float, kind: str) -> World:
    """Return a world whose watch of one kind told of nothing for a while."""

    def known(moment: float, kinds: Collection[str]) -> float:
        missed = kind in kinds and BEGIN + began <= moment < BEGIN + ended
        return BEGIN + ended if missed else moment

    made = World(GRACE, known)
    made.allocatable["n"].became(at(-100), to=Decimal(32 * GIB))
    made.loaded["n"].became(at(0), to=True)
    made.loaded["n"].became(at(20), to=False)
    return made


@pytest.mark.parametrize(
    ("began", "ended", "kind", "broken"),
    [
        (15, 50, PODS.path, False),
        (15, 50, NODES.path, False),
        (15, 50, "/apis/batch/v1/jobs", True),
        (15, 25, PODS.path, True),
        (60, 90, PODS.path, True),
    ],
    ids=["blind", "blind for the node", "blind for another kind", "seen again", "blind later"],
)
def test_only_who_could_not_see_it_is_excused(
    began: float, ended: float, kind: str, broken: bool
) -> None:
    bindings = Bindings(blind(began, ended, kind), label=LABEL, reads_cache=READER)
    if not broken:
        look(bindings, reads(45))
        return
    with pytest.raises(BrokenLawError):
        look(bindings, reads(45))
