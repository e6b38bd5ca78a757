"""preempt: only evictions that leave the pod with its model and its memory."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from extender.cluster.state import ClusterState
from extender.errors import ProtocolError
from extender.kube.objects import Pod
from extender.placement.policy import OnStale, Policy
from extender.verbs.context import Context
from extender.verbs.preempt import preempt
from extender.wire import PreemptArgs, Victims, read_preempt_args, write_preempt_result
from tests.builders import LOADING, READY, loader, loader_pod, node, pod, tmpfs, vllm


@pytest.fixture
def state() -> ClusterState:
    state = ClusterState(clock=lambda: 1_000.0)
    for name, status in (("warm", READY), ("cold", LOADING)):
        state.upsert(node(name, memory="64Gi"))
        state.upsert(loader_pod(name, status))
        state.upsert(tmpfs(f"big-{name}", size="40Gi", on=name))
        state.upsert(tmpfs(f"small-{name}", size="4Gi", on=name))
    state.upsert(loader())
    return state


def victims(*uids: str) -> Victims:
    return Victims(uids=uids, pdb_violations=0)


def kept(state: ClusterState, pod: Any, **candidates: Victims) -> dict[str, Victims]:
    return preempt(PreemptArgs(pod=pod, candidates=candidates), Context(state=state))[0]


def test_nobody_is_evicted_where_the_model_is_not(state: ClusterState) -> None:
    candidates = {"warm": victims("uid-big-warm"), "cold": victims("uid-big-cold")}
    assert kept(state, vllm("asks", memory="8Gi"), **candidates) == {
        "warm": victims("uid-big-warm")
    }


def test_nobody_is_evicted_where_too_little_memory_comes_back(state: ClusterState) -> None:
    asks = tmpfs("asks", size="40Gi")
    assert kept(state, asks, warm=victims("uid-small-warm")) == {}
    assert kept(state, asks, warm=victims("uid-big-warm")) == {"warm": victims("uid-big-warm")}


def test_victims_of_other_nodes_free_nothing_here(state: ClusterState) -> None:
    assert kept(state, tmpfs("asks", size="40Gi"), warm=victims("uid-big-cold")) == {}


def test_a_candidate_without_victims_is_judged_like_any_other(state: ClusterState) -> None:
    assert kept(state, tmpfs("asks", size="40Gi"), warm=victims()) == {}
    assert kept(state, tmpfs("asks", size="4Gi"), warm=victims()) == {"warm": victims()}


def test_room_that_another_pod_was_promised_is_not_made_for_a_second_one(
    state: ClusterState,
) -> None:
    """kube-scheduler has evicted for the first; the second would evict and still find no room."""
    first = tmpfs("first", size="20Gi")
    status = msgspec.structs.replace(first.status, nominated_node_name="warm")
    asks, evicts = tmpfs("asks", size="40Gi"), {"warm": victims("uid-big-warm")}
    assert kept(state, asks, **evicts) == evicts
    state.upsert(Pod(metadata=first.metadata, spec=first.spec, status=status))
    assert kept(state, asks, **evicts) == {}
    spec = msgspec.structs.replace(asks.spec, priority=1000)
    above = Pod(metadata=asks.metadata, spec=spec, status=asks.status)
    assert kept(state, above, **evicts) == evicts  # it goes before those of lower priority


def test_before_the_first_lists_nobody_is_evicted(state: ClusterState) -> None:
    args = PreemptArgs(pod=vllm("asks"), candidates={"warm": victims("uid-big-warm")})
    assert preempt(args, Context(state=state, unsynced=lambda: ("Node",))) == ({}, None)


def test_nobody_is_evicted_by_an_answer_that_comes_too_late(state: ClusterState) -> None:
    args = PreemptArgs(pod=vllm("asks"), candidates={"warm": victims("uid-big-warm")})
    assert preempt(args, Context(state=state), late=lambda: True) == ({}, None)


@pytest.mark.parametrize("on_stale", list(OnStale))
@pytest.mark.parametrize("asks", [vllm("asks"), tmpfs("asks", size="4Gi")], ids=["model", "tmpfs"])
def test_with_old_knowledge_nobody_is_evicted_for_a_pod_that_needs_certainty(
    state: ClusterState, asks: Pod, on_stale: OnStale
) -> None:
    """``neutral`` lets such a pod go anywhere; it does not let others be evicted on a guess."""
    args = PreemptArgs(pod=asks, candidates={"warm": victims("uid-big-warm")})
    context = Context(state=state, policy=Policy(on_stale=on_stale), stale=lambda: ("Pod",))
    kept, made = preempt(args, context)
    assert kept == {}
    assert made is not None
    assert (made.refused, made.stale) == ({"KnowledgeStale": 1}, ("Pod",))


@pytest.mark.parametrize("on_stale", list(OnStale))
def test_with_old_knowledge_a_pod_that_needs_none_of_it_preempts_as_without_us(
    state: ClusterState, on_stale: OnStale
) -> None:
    args = PreemptArgs(pod=pod("asks"), candidates={"warm": victims("uid-big-warm")})
    context = Context(state=state, policy=Policy(on_stale=on_stale), stale=lambda: ("Pod",))
    assert preempt(args, context)[0] == args.candidates


POD = {"metadata": {"name": "asks", "namespace": "inference", "uid": "u"}}
META = {"n": {"Pods": [{"UID": "v"}, {"UID": "w"}], "NumPDBViolations": 1}}
FULL = {
    "n": {
        "Pods": [{"metadata": {"uid": "v", "name": "v"}}, {"metadata": {"uid": "w"}}],
        "NumPDBViolations": 1,
    }
}


@pytest.mark.parametrize(
    "form",
    [
        {"NodeNameToMetaVictims": META},
        {"NodeNameToVictims": FULL},
        {"NodeNameToVictims": None, "NodeNameToMetaVictims": META},
        {"NodeNameToVictims": FULL, "NodeNameToMetaVictims": None},
    ],
)
def test_both_forms_are_read_and_answered_in_the_short_one(form: dict[str, Any]) -> None:
    args = read_preempt_args(json.dumps({"Pod": POD, **form}).encode())
    assert args.candidates == {"n": Victims(uids=("v", "w"), pdb_violations=1)}
    assert json.loads(write_preempt_result(args.candidates)) == {"NodeNameToMetaVictims": META}


@pytest.mark.parametrize("empty", [{"n": None}, {"n": {"Pods": None}}, {"n": {"Pods": [None]}}])
def test_no_null_comes_back(empty: dict[str, Any]) -> None:
    """One as victims crashes kube-scheduler (pkg/scheduler/extender.go)."""
    args = read_preempt_args(json.dumps({"Pod": POD, "NodeNameToMetaVictims": empty}).encode())
    assert "null" not in write_preempt_result(args.candidates).decode()


@pytest.mark.parametrize(
    "odd", [{"n": []}, {"n": {"Pods": {}}}, {"n": {"Pods": [{}]}}, [], "n", {"n": {"Pods": [1]}}]
)
def test_what_is_not_the_protocol_is_refused_by_name(odd: Any) -> None:
    with pytest.raises(ProtocolError, match="NodeNameToMetaVictims"):
        read_preempt_args(json.dumps({"Pod": POD, "NodeNameToMetaVictims": odd}).encode())
