"""Starts that happened: which count, how they are told, and what they teach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.cluster.corrections import (
    BOUNDS,
    MIN_STARTS,
    Basis,
    Corrections,
    corrections,
)
from extender.cluster.decisions import BoundDecision
from extender.cluster.holdings import Evidence
from extender.cluster.state import ClusterState
from extender.cluster.tiers import Tier
from extender.kube.objects import Pod
from extender.kube.times import time_text
from extender.workload.model import Strategy
from tests.builders import READY, STOPPED, loader, loader_pod, node, pod, relist, vllm
from tests.clock import Clock
from tests.placement.situations import judge

BORN = 1_767_225_600.0
DISK = Basis(strategy=Strategy.NODE_CACHE, evidence=Evidence.DECLARED, tier=Tier.DISK)
HUB = Basis(strategy=Strategy.NODE_CACHE, evidence=None, tier=Tier.HUB)
CLAIM = Basis(strategy=Strategy.SHARED_VOLUME, evidence=None, tier=Tier.SHARED_VOLUME)


def state(*, learn: bool = True) -> ClusterState:
    return ClusterState(clock=Clock(BORN), learn=learn)


PROBED = {"readinessProbe": {"httpGet": {"path": "/health", "port": 8000}}}


def bound(
    name: str = "p",
    *,
    ready_after: float | None = None,
    estimated: float = 28.0,
    basis: Basis = DISK,
    restarts: int = 0,
    decided_for: str = "n",
    correction: float = 1.0,
    probes: Mapping[str, Any] = PROBED,
    **decided: Any,
) -> Pod:
    """Build a pod that this program bound to node n at BORN; Ready so many seconds later."""
    conditions = [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": time_text(BORN)},
        {
            "type": "Ready",
            "status": "False" if ready_after is None else "True",
            "lastTransitionTime": time_text(BORN + (ready_after or 0)),
        },
    ]
    decision = BoundDecision(
        time=BORN,
        node=decided_for,
        strategy=basis.strategy,
        evidence=basis.evidence,
        tier=basis.tier,
        estimated_start_seconds=estimated,
        correction=correction,
        **decided,
    )
    return pod(
        name,
        metadata={"annotations": decision.annotations()},
        spec={
            "nodeName": "n",
            "containers": [{"name": "main", "image": "busybox:1.37", **probes}],
        },
        status={
            "phase": "Running",
            "conditions": conditions,
            "containerStatuses": [{"name": "main", "restartCount": restarts}],
        },
    )


def run(made: ClusterState, number: int = 1, **more: Any) -> None:
    """Let pods of one kind be bound, and become Ready."""
    seconds = more.pop("ready_after", 40)
    for index in range(number):
        name = f"{more.get('basis', DISK).tier}-{index}-{seconds}"
        made.upsert(bound(name, **more))
        made.upsert(bound(name, ready_after=seconds, **more))


def counted(made: ClusterState, basis: Basis = DISK) -> int:
    found = made.starts_seen().get(basis)
    return sum(found[0].actual.counts) if found else 0


# -- which count ---------------------------------------------------------------------------------


def test_a_start_is_bound_to_ready_as_the_conditions_say() -> None:
    made = state()
    run(made, ready_after=41)
    (one,) = made.starts().values()
    assert (one.estimated, one.actual, one.basis, one.node) == (28.0, 41.0, DISK, "n")
    seen, samples = made.starts_seen()[DISK]
    assert (seen.actual.mean, seen.difference.mean, samples) == (41.0, 13.0, 1)


def test_a_pod_counts_once_however_often_it_is_seen() -> None:
    made = state()
    run(made)
    ready = bound("disk-0-40", ready_after=40)
    made.upsert(ready)
    relist(made, Pod, [ready])
    made.upsert(bound("disk-0-40"))
    made.upsert(bound("disk-0-40", ready_after=500))
    assert counted(made) == 1


def test_what_was_ready_before_the_first_list_corrects_and_is_not_counted_again() -> None:
    """Counted, it would be in the histograms anew after every restart of this program."""
    made = state()
    relist(made, Pod, [bound(f"p-{n}", ready_after=56) for n in range(MIN_STARTS)])
    assert counted(made) == 0
    assert made.starts_seen()[DISK][1] == MIN_STARTS
    assert made.view().corrections.factor(Strategy.NODE_CACHE, Evidence.DECLARED, Tier.DISK) > 1


def test_what_was_restarted_before_it_was_first_seen_says_nothing_of_its_start() -> None:
    made = state()
    relist(made, Pod, [bound(ready_after=4000, restarts=1)])
    assert not made.starts()


NOTHING = {
    "not Ready": bound(),
    "Ready before it was bound: two clocks": bound(ready_after=-3),
    "decided for another node": bound(ready_after=3, decided_for="m"),
    "no estimate": bound(ready_after=3, basis=DISK, estimated=0.0),
    "another version": bound(ready_after=3, version=2),
    "no model": bound(
        ready_after=3, basis=Basis(strategy=Strategy.NONE, evidence=None, tier=Tier.HUB)
    ),
    "no decision": vllm(on="n"),
    "Ready as soon as its process runs": bound(ready_after=3, probes={}),
}


@pytest.mark.parametrize("case", NOTHING)
def test_what_says_nothing_of_a_start_is_left_out(case: str) -> None:
    made = state()
    made.upsert(NOTHING[case])
    assert not made.starts()
    assert made.view().corrections == Corrections()


@given(st.text() | st.sampled_from(["[" * 10_000, '{"version":1}', '{"version":1,"time":"x"}']))
def test_any_text_may_stand_where_the_decision_is(text: str) -> None:
    plain = bound(ready_after=3)
    metadata = msgspec.structs.replace(
        plain.metadata, annotations={"modelcache.dev/decision": text}
    )
    made = state()
    made.upsert(msgspec.structs.replace(plain, metadata=metadata))
    assert not made.starts()


def test_a_pod_that_is_gone_is_let_go_and_what_it_taught_stays() -> None:
    made = state()
    run(made, MIN_STARTS)
    before = made.view().corrections
    relist(made, Pod, [])
    assert not made._starts._counted
    assert made.view().corrections == before != Corrections()


# -- what they teach -----------------------------------------------------------------------------

BASES = st.sampled_from([DISK, HUB, CLAIM])
RATIOS = st.dictionaries(BASES, st.lists(st.floats(0, 1e9), max_size=30))


@given(RATIOS)
def test_no_factor_leaves_its_bounds(ratios: dict[Basis, list[float]]) -> None:
    made = corrections(ratios)
    for factor in (*made.by_basis.values(), *made.by_strategy.values()):
        assert BOUNDS[0] <= factor <= BOUNDS[1]


@given(st.lists(st.floats(0.1, 10), max_size=MIN_STARTS - 1))
def test_a_few_starts_teach_nothing(ratios: list[float]) -> None:
    assert corrections({DISK: ratios}) == Corrections()


@given(st.floats(0.5, 2), st.integers(MIN_STARTS, 60))
def test_more_starts_teach_more_and_never_beyond_what_happened(ratio: float, number: int) -> None:
    some, more = (corrections({DISK: [ratio] * n}).by_basis[DISK] for n in (number, number + 1))
    assert min(ratio, 1) - 1e-9 <= min(some, more)
    assert max(some, more) <= max(ratio, 1) + 1e-9
    assert abs(more - 1) >= abs(some - 1) - 1e-9


def test_one_start_that_took_for_ever_teaches_nothing() -> None:
    usual = corrections({DISK: [1.5] * 20})
    assert corrections({DISK: [1.5] * 20 + [1e6]}).by_basis[DISK] == pytest.approx(
        usual.by_basis[DISK], rel=0.02
    )


@given(st.lists(st.floats(0.01, 100), min_size=MIN_STARTS, max_size=40))
def test_where_one_basis_alone_is_known_all_are_corrected_alike(ratios: list[float]) -> None:
    """Else nodes without the model would look better the slower the engines are."""
    made = corrections({DISK: ratios})
    known = made.factor(DISK.strategy, DISK.evidence, DISK.tier)
    assert made.factor(HUB.strategy, HUB.evidence, HUB.tier) == pytest.approx(known)
    assert made.factor(CLAIM.strategy, CLAIM.evidence, CLAIM.tier) == 1


def test_a_tier_that_is_slower_than_the_others_is_told_apart() -> None:
    made = corrections({DISK: [1.0] * 30, HUB: [1.8] * 30})
    assert made.by_basis[DISK] < 1.2
    assert made.by_basis[HUB] > 1.4


def test_what_was_corrected_already_is_not_corrected_twice() -> None:
    made = state()
    run(made, 40, ready_after=42, estimated=28.0)
    first = made.view().corrections.by_basis[DISK]
    again = state()
    run(again, 40, ready_after=42, estimated=28.0 * first, correction=first)
    assert again.view().corrections.by_basis[DISK] == pytest.approx(first)


def test_learning_can_be_switched_off_and_is_still_shown() -> None:
    made = state(learn=False)
    run(made, 20, ready_after=56)
    assert made.view().corrections == Corrections()
    assert counted(made) == 20


# -- in decisions --------------------------------------------------------------------------------


def test_an_estimate_is_corrected_as_a_whole_and_a_stale_node_stays_last() -> None:
    made = state()
    for obj in (
        node("ready"), node("stale"), loader(), loader_pod("ready", READY),
        loader_pod("stale", STOPPED),
    ):  # fmt: skip
        made.upsert(obj)
    run(made, 40, ready_after=56, estimated=28.0)
    answers = judge(vllm(), made)
    before, stale = (answers.verdict(name).start for name in ("ready", "stale"))
    assert before is not None
    assert stale is not None
    assert before.correction == made.view().corrections.by_basis[DISK] > 1.5
    assert before.seconds == pytest.approx(28 * before.correction)
    assert stale.tier is None
    assert stale.seconds > before.seconds
