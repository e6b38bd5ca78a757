"""filter, where more nodes fit than kube-scheduler would look for: which of them are offered."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.cluster.state import ClusterState
from extender.kube.objects import Pod
from extender.placement import narrowing
from extender.placement.narrowing import THE_LEAST, enough
from extender.verbs.context import Context, ListRejected
from extender.verbs.decision import Decision
from extender.verbs.filter import filter_nodes
from extender.verbs.prioritize import prioritize_nodes
from extender.wire import ExtenderArgs
from tests.builders import node, pod, vllm
from tests.placement.situations import (
    ZONE,
    annotated,
    cluster,
    copied_to_memory,
    from_image,
    memory_pod,
    plain,
    provides,
)

NODES = 400
HOLDERS = 30
ROOM = enough(NODES, THE_LEAST)
SMALL_ZONE = 3

NAMES = tuple(f"n{number:03d}" for number in range(NODES))


def fleet() -> ClusterState:
    """Return 400 nodes in three zones, one of them small, 30 of which hold the model."""
    return cluster(
        *(
            node(
                name,
                labels={ZONE: "small" if number < SMALL_ZONE else f"zone-{number % 2}"},
                annotations=provides() if number % (NODES // HOLDERS) == 0 else {},
            )
            for number, name in enumerate(NAMES)
        )
    )


FLEET = fleet()
HOLDING = set(NAMES[:: NODES // HOLDERS])


def narrowing_context(state: ClusterState = FLEET, seed: int = 1, **more: Any) -> Context:
    more = {"offered_percentage": THE_LEAST} | more
    return Context(state=state, draw=Random(seed).randrange, **more)


def ask(context: Context, asker: Pod, names: tuple[str, ...] = NAMES) -> tuple[list[str], Decision]:
    result, made = filter_nodes(ExtenderArgs(pod=asker, names=names, nodes=None), context)
    assert made is not None
    assert not result.error
    return list(result.names), made


def with_spec(**spec: Any) -> Pod:
    return pod("plain", spec={"containers": [{"name": "main", "image": "busybox:1.37"}], **spec})


def preferring() -> Pod:
    """Return a server that is sooner where the node has its model, and can do without."""
    return annotated(vllm(), need="preferred")


# -- how many ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "percentage", "expected"),
    [
        (50, 0, 100),
        (5000, 0, 100),
        (15000, 0, 100),
        (5000, 1, 100),
        (15000, 1, 150),
        (5000, 20, 1000),
        (5000, 100, 5000),
    ],
)
def test_no_fewer_are_offered_than_kube_scheduler_looks_for_at_least(
    nodes: int, percentage: int, expected: int
) -> None:
    assert enough(nodes, percentage) == expected


def test_about_as_many_are_offered_and_the_decision_says_so() -> None:
    offered, made = ask(narrowing_context(), plain())
    assert ROOM - 3 <= len(offered) <= ROOM + 1
    assert (made.asked, made.passed, made.offered) == (NODES, NODES, len(offered))


@given(st.integers(0, 2**32), st.integers(1, NODES))
def test_what_is_offered_was_asked_about_each_node_once_and_never_nothing(
    seed: int, count: int
) -> None:
    names = tuple(Random(seed).sample(NAMES, count))
    offered, _ = ask(narrowing_context(seed=seed), plain(), names)
    assert offered
    assert len(set(offered)) == len(offered)
    assert set(offered) <= set(names)
    if count <= ROOM:
        assert offered == list(names)


# -- which ---------------------------------------------------------------------------------------


def test_every_node_that_holds_the_preferred_model_is_among_those_offered() -> None:
    context = narrowing_context()
    offered, made = ask(context, preferring())
    assert made.passed == NODES
    assert set(offered) >= HOLDING
    assert len(offered) < NODES


def test_no_node_that_is_left_out_would_have_scored_higher_than_one_that_is_offered() -> None:
    for asker in (preferring(), memory_pod(size="20Gi", request="1Gi"), from_image()):
        offered, _ = ask(narrowing_context(), asker)
        everyone = ExtenderArgs(pod=asker, names=NAMES, nodes=None)
        scores = dict(prioritize_nodes(everyone, Context(state=FLEET))[0])
        left_out = set(NAMES) - set(offered)
        assert left_out
        # prioritize puts one of the equally good a point ahead, for pods with memory volumes
        assert max(scores[name] for name in left_out) <= min(scores[name] for name in offered) + 1


def test_of_equal_nodes_each_zone_has_its_share_and_a_small_one_is_there() -> None:
    offered, _ = ask(narrowing_context(), plain())
    zones = Counter(FLEET.view().nodes[name].labels[ZONE] for name in offered)
    assert set(zones) == {"small", "zone-0", "zone-1"}
    assert abs(zones["zone-0"] - zones["zone-1"]) <= 2


def test_of_equal_nodes_other_ones_are_offered_to_the_next_pod() -> None:
    context = narrowing_context()
    seen: set[str] = set()
    for number in range(20):
        seen |= set(ask(context, pod(f"plain-{number}"))[0])
    assert len(seen) > 0.99 * NODES


def test_what_a_zone_lacks_of_its_share_the_others_have() -> None:
    """Nearly all of one zone is full, and kube-scheduler does not ask about it."""
    names = tuple(
        name
        for number, name in enumerate(NAMES)
        if number < SMALL_ZONE or number % 2 or number < NODES // 10
    )
    offered, _ = ask(narrowing_context(), plain(), names)
    assert ROOM - 3 <= len(offered) <= ROOM + 3
    zones = Counter(FLEET.view().nodes[name].zone for name in offered)
    assert zones["zone-0"] == NODES // 20 - 2


def test_nodes_that_cannot_win_are_not_offered_beside_those_that_hold_the_model() -> None:
    """All of the others score 0 and these 10, which outweighs kube-scheduler's own scores."""
    offered, made = ask(narrowing_context(), preferring())
    assert set(offered) == HOLDING
    assert (made.passed, made.offered) == (NODES, len(HOLDING))


def test_the_only_node_that_holds_the_model_is_offered_alone() -> None:
    state = cluster(*(node(n, annotations=provides() if n == "n123" else {}) for n in NAMES))
    offered, _ = ask(narrowing_context(state), preferring())
    assert offered == ["n123"]


def test_where_memory_is_at_stake_the_best_node_is_never_offered_alone() -> None:
    """Prioritize would not be asked, and hold no memory: the next pod would be sent there too."""
    state = cluster(*(node(n, annotations=provides() if n == "n123" else {}) for n in NAMES))
    asker = annotated(copied_to_memory(), need="preferred")
    scores = prioritize_nodes(
        ExtenderArgs(pod=asker, names=NAMES, nodes=None), Context(state=state)
    )
    assert [name for name, score in scores[0] if score] == ["n123"]
    offered, _ = ask(narrowing_context(state), asker)
    assert "n123" in offered
    assert len(offered) >= ROOM - 3


# -- to whom all are offered ---------------------------------------------------------------------


def test_a_pod_that_is_asked_about_again_is_offered_all() -> None:
    """Whatever was wrong with those that were offered, it waits for none that was left out."""
    context = narrowing_context()
    assert len(ask(context, plain())[0]) < NODES
    for _ in range(3):
        offered, made = ask(context, plain())
        assert offered == list(NAMES)
        assert made.offered is None


def test_one_that_was_asked_about_its_nominated_node_is_offered_all() -> None:
    context = narrowing_context()
    assert ask(context, plain(), ("n007",))[0] == ["n007"]
    assert ask(context, plain())[0] == list(NAMES)


_TERM = {"weight": 1, "preference": {"matchExpressions": []}}
_POD_TERM = {"weight": 1, "podAffinityTerm": {"topologyKey": ZONE}}
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


@pytest.mark.parametrize(
    "spec",
    [
        {"affinity": {"nodeAffinity": {_PREFERRED: [_TERM]}}},
        {"affinity": {"podAffinity": {_PREFERRED: [_POD_TERM]}}},
        {"affinity": {"podAntiAffinity": {_PREFERRED: [_POD_TERM]}}},
        {
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "ScheduleAnyway"}
            ]
        },
        {"schedulingGroup": {"podGroupName": "gang"}},
    ],
    ids=["node affinity", "pod affinity", "pod anti-affinity", "soft spreading", "gang"],
)
def test_a_pod_that_prefers_nodes_by_other_means_is_offered_all(spec: dict[str, Any]) -> None:
    assert ask(narrowing_context(), with_spec(**spec))[0] == list(NAMES)


@pytest.mark.parametrize(
    "spec",
    [
        {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}},
        {"affinity": None, "topologySpreadConstraints": None},
        {
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule"}
            ]
        },
    ],
    ids=["required affinity", "nulls", "hard spreading"],
)
def test_what_a_pod_requires_is_judged_before_and_keeps_nothing_from_being_left_out(
    spec: dict[str, Any],
) -> None:
    assert len(ask(narrowing_context(), with_spec(**spec))[0]) < NODES


@pytest.mark.parametrize(
    "more",
    [{"list_rejected": ListRejected.ALWAYS}, {"offered_percentage": narrowing.ALL}],
    ids=["in a chain of extenders", "switched off"],
)
def test_all_are_offered_where_that_is_configured(more: dict[str, Any]) -> None:
    assert ask(narrowing_context(**more), plain())[0] == list(NAMES)


def test_a_pod_without_a_uid_is_offered_all_since_it_could_not_be_told_from_the_next() -> None:
    asker = plain()
    nameless = msgspec.structs.replace(
        asker, metadata=msgspec.structs.replace(asker.metadata, uid="")
    )
    assert ask(narrowing_context(), nameless)[0] == list(NAMES)


def test_with_old_knowledge_nodes_are_drawn_as_for_a_pod_without_a_model() -> None:
    context = narrowing_context(stale=lambda: ("Pod",))
    offered, _ = ask(context, preferring())
    assert ROOM - 3 <= len(offered) <= ROOM + 1
