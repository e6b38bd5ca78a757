"""Shadow mode: what this program would have said of another scheduler's choice."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from extender.kube.objects import KubeObject, Node, Pod
from extender.placement.reasons import Reason
from extender.verbs.context import Context
from extender.verbs.observe import Observation, Outcome, Report, observe
from extender.workload.model import Strategy
from tests.builders import LOADING, READY, loader, loader_pod, node, tmpfs, vllm
from tests.placement.situations import (
    Clock,
    annotated,
    cluster,
    from_hub,
    memory_pod,
    plain,
)

WARM_AND_COLD = (
    node("warm"),
    node("cold"),
    loader(),
    loader_pod("warm", READY),
    vllm("reader", on="warm"),
    loader_pod("cold", READY),
)


def bound(asker: Pod, where: str, **spec: Any) -> Pod:
    """Return a pod as some scheduler has just bound it."""
    return msgspec.structs.replace(
        asker, spec=msgspec.structs.replace(asker.spec, node_name=where, **spec)
    )


def seen(asker: Pod, where: str, *objects: KubeObject, **context: Any) -> Observation:
    return observe(bound(asker, where), Context(state=cluster(*objects), **context))


def cordoned(made: Node) -> Node:
    return msgspec.structs.replace(
        made, spec=msgspec.structs.replace(made.spec, unschedulable=True)
    )


def test_a_pod_that_started_cold_though_a_warm_node_fitted_could_have_been_sooner() -> None:
    """16 GB: 8 s from disk, 2.7 s from the page cache."""
    made = seen(vllm(), "cold", *WARM_AND_COLD)
    assert made.outcome is Outcome.SLOWER
    assert (made.node, made.best) == ("cold", "warm")
    assert made.estimated == 28
    assert made.best_estimated == pytest.approx(20 + 16 / 6)
    assert made.saved == pytest.approx(8 - 16 / 6)
    assert made.candidates == 2


def test_a_pod_on_the_soonest_node_could_not_have_been_sooner() -> None:
    made = seen(vllm(), "warm", *WARM_AND_COLD)
    assert (made.outcome, made.best, made.saved) == (Outcome.AGREES, "warm", 0)


def test_a_pod_on_one_of_several_equal_nodes_could_not_have_been_sooner() -> None:
    equal = [loader(), *(node(n) for n in "abc"), *(loader_pod(n, READY) for n in "abc")]
    made = seen(vllm(), "c", *equal)
    assert (made.outcome, made.saved, made.candidates) == (Outcome.AGREES, 0, 3)


def test_a_difference_of_less_than_a_second_is_none() -> None:
    """1.6 GB: 0.8 s from disk, 0.3 s from the page cache."""
    small = "/models/small-0.8b"
    named = [
        bound(vllm("reader", model=small), "warm"),
        node("warm", annotations={"modelcache.dev/provides": "/var/lib/models"}),
        node("cold", annotations={"modelcache.dev/provides": "/var/lib/models"}),
    ]
    running = msgspec.structs.replace(named[0], status=vllm(on="warm").status)
    made = seen(vllm(model=small), "cold", running, *named[1:])
    assert made.best == "warm"
    assert (made.outcome, made.saved) == (Outcome.AGREES, 0)


def test_a_node_without_the_required_model_would_have_been_refused() -> None:
    made = seen(vllm(), "cold", node("warm"), node("cold"), loader(), loader_pod("warm", READY))
    assert (made.outcome, made.reason) == (Outcome.REFUSED, Reason.MODEL_ABSENT)
    assert (made.best, made.candidates) == ("warm", 1)
    assert made.saved == pytest.approx(80)


def test_a_node_without_the_memory_would_have_been_refused() -> None:
    full = (node("full", "32Gi"), node("free", "32Gi"), tmpfs("other", size="20Gi", on="full"))
    made = seen(memory_pod(request="1Gi", size="20Gi"), "full", *full)
    assert (made.outcome, made.reason) == (Outcome.REFUSED, Reason.INSUFFICIENT_MEMORY)
    assert made.best == "free"


def test_where_no_node_would_have_done_none_is_named() -> None:
    made = seen(vllm(), "a", node("a"), loader(), loader_pod("a", LOADING))
    assert (made.outcome, made.reason) == (Outcome.REFUSED, Reason.MODEL_LOADING)
    assert (made.best, made.best_estimated, made.saved, made.candidates) == (None, None, 0, 0)


@pytest.mark.parametrize(
    "asker",
    [plain(), from_hub(), annotated(vllm(), need="ignore")],
    ids=["no model", "downloads wherever it lands", "told to ignore"],
)
def test_a_pod_for_which_nodes_do_not_differ_was_well_placed(asker: Pod) -> None:
    made = seen(asker, "cold", *WARM_AND_COLD)
    assert (made.outcome, made.best, made.saved) == (Outcome.NO_PREFERENCE, None, 0)


def test_a_cordoned_node_is_no_better_choice() -> None:
    objects = [cordoned(o) if o == WARM_AND_COLD[0] else o for o in WARM_AND_COLD]
    made = seen(vllm(), "cold", *objects)
    assert (made.outcome, made.best, made.candidates) == (Outcome.AGREES, "cold", 1)


def test_a_node_that_the_pods_selector_leaves_out_is_no_better_choice() -> None:
    objects = (*WARM_AND_COLD, node("cold", labels={"gpu": "h100"}))
    context = Context(state=cluster(*objects))
    picky = bound(vllm(), "cold", node_selector={"gpu": "h100"})
    made = observe(picky, context)
    assert (made.outcome, made.best, made.candidates) == (Outcome.AGREES, "cold", 1)


def test_old_knowledge_saves_nobody_a_second() -> None:
    made = seen(annotated(vllm(), need="preferred"), "cold", *WARM_AND_COLD, stale=lambda: ("Pod",))
    assert (made.outcome, made.best, made.saved) == (Outcome.NO_PREFERENCE, None, 0)


def test_an_observation_says_who_was_put_where_by_whom_and_when() -> None:
    clock = Clock()
    asker = bound(vllm(), "warm", scheduler_name="default-scheduler")
    made = observe(asker, Context(state=cluster(*WARM_AND_COLD, clock=clock)))
    assert (made.namespace, made.pod, made.node) == ("inference", "llama", "warm")
    assert made.scheduler == "default-scheduler"
    assert made.strategy is Strategy.NODE_CACHE
    assert made.model == "/models/llama-3.1-8b-instruct"
    assert made.time == clock.now


def test_observing_changes_nothing() -> None:
    state = cluster(*WARM_AND_COLD)
    before = state.view().nodes
    first, second = (observe(bound(vllm(), "cold"), Context(state=state)) for _ in range(2))
    assert first == second
    assert state.view().nodes == before


def test_the_report_adds_up_pods_outcomes_and_seconds() -> None:
    report = Report()
    refused = (node("warm"), node("cold"), loader(), loader_pod("warm", READY))
    for made in (
        seen(vllm(), "cold", *WARM_AND_COLD),
        seen(vllm(), "warm", *WARM_AND_COLD),
        seen(plain(), "cold", *WARM_AND_COLD),
        seen(vllm(), "cold", *refused),
    ):
        report.add(made)
    assert (report.pods, report.agreed, report.slower, report.refused) == (4, 2, 1, 1)
    assert report.saved_seconds == pytest.approx(8 - 16 / 6 + 80)
