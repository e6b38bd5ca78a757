"""What still counts while the watch has lost sight of something: memory that is known for sure.

Memory rests on nodes and pods alone, and what this program has promised itself is known whatever
the watch tells. Of models and claims nothing is believed.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.cluster.reservations import Reservation
from extender.cluster.state import ClusterState
from extender.kube.objects import Node, Pod
from extender.placement.policy import OnStale, Policy
from extender.placement.reasons import Reason
from extender.placement.verdict import Verdict
from extender.watch.resources import NODES, PODS, RESOURCES
from tests.builders import READY, loader, loader_pod, node, pod, requesting, tmpfs
from tests.placement.situations import GI, cluster, judge
from tests.verbs.random_clusters import Drawn, askers, clusters, questions

BESIDE_MEMORY = [one.name for one in RESOURCES if one not in (NODES, PODS)]
SETTINGS = pytest.mark.parametrize("on_stale", OnStale)


def asks(memory: str = "20Gi") -> Pod:
    return requesting("asks", memory)


def full() -> ClusterState:
    """Return a cluster whose node ``n`` of 64 GiB has 3 GiB left, as only this program sees."""
    taker = tmpfs("taker", size="60Gi", on="n")
    return cluster(node("n", "64Gi"), loader(), loader_pod("n", READY), taker)


def promise(state: ClusterState, gibibytes: int, uid: str = "other") -> None:
    """Promise memory of node ``n`` to a pod that is being bound."""
    entry = Reservation(uid=uid, node="n", bytes=gibibytes * GI, expires=2e9, claim=1)
    state.hold(entry)


def said(asker: Pod, state: ClusterState, on_stale: OnStale, *stale: str) -> Verdict:
    return judge(asker, state, Policy(on_stale=on_stale), stale=stale).verdict("n")


@SETTINGS
@pytest.mark.parametrize("kind", BESIDE_MEMORY)
def test_memory_is_counted_as_ever_while_nodes_and_pods_are_in_sight(
    kind: str, on_stale: OnStale
) -> None:
    verdict = said(asks(), full(), on_stale, kind)
    assert verdict.reason is Reason.INSUFFICIENT_MEMORY
    assert (verdict.missing, verdict.memory_free) == (17 * GI, 3 * GI)
    assert said(asks("3Gi"), full(), on_stale, kind).fits


@pytest.mark.parametrize("kind", BESIDE_MEMORY)
def test_neutral_lets_no_volume_into_memory_that_is_known_to_be_taken(kind: str) -> None:
    assert said(tmpfs("asks"), full(), OnStale.NEUTRAL, kind).reason is Reason.INSUFFICIENT_MEMORY
    assert said(tmpfs("asks"), full(), OnStale.REFUSE, kind).reason is Reason.KNOWLEDGE_STALE


@SETTINGS
def test_pods_that_may_be_gone_take_no_memory(on_stale: OnStale) -> None:
    verdict = said(asks(), full(), on_stale, PODS.name)
    assert verdict.fits
    assert verdict.memory_free is None


@SETTINGS
@pytest.mark.parametrize("kind", [one.name for one in RESOURCES])
def test_what_this_program_has_promised_counts_whatever_is_old(
    kind: str, on_stale: OnStale
) -> None:
    state = cluster(node("n", "64Gi"))
    promise(state, 60)
    assert said(asks(), state, on_stale, kind).reason is Reason.INSUFFICIENT_MEMORY
    assert said(asks(), state, on_stale, kind).missing == 16 * GI
    assert said(asks("4Gi"), state, on_stale, kind).fits


@SETTINGS
@pytest.mark.parametrize("kind", [one.name for one in RESOURCES])
def test_what_was_promised_to_a_pod_itself_is_its_own(kind: str, on_stale: OnStale) -> None:
    state = cluster(node("n", "64Gi"))
    promise(state, 60, asks().metadata.uid)
    assert said(asks("60Gi"), state, on_stale, kind).fits


@SETTINGS
def test_what_is_known_to_be_on_a_node_counts_against_the_size_that_it_was_last_told_to_have(
    on_stale: OnStale,
) -> None:
    """A node's size changes hardly ever, and what is on it is known."""
    assert said(asks(), full(), on_stale, NODES.name).reason is Reason.INSUFFICIENT_MEMORY
    assert said(asks(), full(), on_stale, NODES.name, PODS.name).fits


@SETTINGS
def test_an_old_size_alone_refuses_nobody(on_stale: OnStale) -> None:
    """The node may have grown."""
    assert said(asks("65Gi"), cluster(node("n", "64Gi")), on_stale, NODES.name).fits
    verdict = said(asks("65Gi"), cluster(node("n", "64Gi")), on_stale, PODS.name)
    assert verdict.reason is Reason.INSUFFICIENT_MEMORY


@SETTINGS
@pytest.mark.parametrize("kind", [one.name for one in RESOURCES])
def test_a_pod_that_asks_for_no_memory_is_refused_nowhere(kind: str, on_stale: OnStale) -> None:
    state = full()
    promise(state, 60)
    assert said(pod("asks"), state, on_stale, kind).fits


@SETTINGS
@pytest.mark.parametrize("kind", [one.name for one in RESOURCES])
def test_a_node_that_was_seen_to_be_deleted_takes_nobody_while_nodes_are_in_sight(
    kind: str, on_stale: OnStale
) -> None:
    state = full()
    state.delete(node("n"))
    reason = said(pod("asks"), state, on_stale, kind).reason
    assert reason is (None if kind == Node.__name__ else Reason.NODE_GONE)


kinds = st.lists(st.sampled_from([one.name for one in RESOURCES]), unique=True).map(tuple)


@given(clusters(), askers, questions, kinds, st.sampled_from(OnStale))
def test_the_fast_answer_and_the_whole_verdict_give_one_reason(
    drawn: Drawn, asker: Pod, names: tuple[str, ...], stale: tuple[str, ...], on_stale: OnStale
) -> None:
    for name in names[::2]:
        drawn.state.hold(Reservation(uid=name, node=name, bytes=40 * GI, expires=2e9, claim=1))
    told = judge(asker, drawn.state, Policy(on_stale=on_stale), stale=stale)
    assert [told.reason(name) for name in names] == [told.verdict(name).reason for name in names]
    for name in names:
        verdict = told.verdict(name)
        if verdict.reason is Reason.INSUFFICIENT_MEMORY:
            assert verdict.missing > 0
