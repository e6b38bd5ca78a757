"""What is kept of an earlier question never shows: every answer is as if nothing had been kept."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extender.cluster import ledger
from extender.cluster.reservations import HOLD, Reservation
from extender.cluster.state import ClusterState
from extender.kube.objects import Lease, Pod, PodStatus
from extender.placement import tables
from extender.placement.reasons import Reason
from extender.placement.refusals import refusals
from extender.placement.verdict import Judge
from extender.report import Progress, Report, ReportedState, Transfer, Unlisted
from extender.verbs.context import Context
from extender.verbs.filter import filter_nodes
from extender.verbs.prioritize import prioritize_nodes
from extender.wire import ExtenderArgs, write_filter_result, write_priorities
from tests.builders import (
    CRASHING,
    LOADING,
    MODEL,
    READY,
    STOPPED,
    claim,
    job,
    loader,
    loader_lease,
    loader_pod,
    node,
    our_loader,
    reported,
    reporting_pod,
    tmpfs,
    vllm,
    volume,
)
from tests.placement.situations import Clock, annotated, cluster, from_claim, memory_pod
from tests.verbs.random_clusters import NAMES, askers

Change = Callable[[ClusterState, Clock, Pod], None]


def _wait(seconds: float) -> Change:
    def change(_state: ClusterState, clock: Clock, _asker: Pod) -> None:
        clock.now += seconds

    return change


def _nominate(name: str) -> Change:
    def change(state: ClusterState, _clock: Clock, asker: Pod) -> None:
        status = msgspec.structs.replace(asker.status, nominated_node_name=name)
        state.upsert(msgspec.structs.replace(asker, status=status))

    return change


def _keep(name: str, *, claim: int) -> Change:
    def change(state: ClusterState, clock: Clock, asker: Pod) -> None:
        uid = asker.metadata.uid
        entry = Reservation(uid=uid, node=name, bytes=2**34, expires=clock.now + 60, claim=claim)
        state.hold(entry)

    return change


def _upsert(*objects: object) -> Change:
    def change(state: ClusterState, _clock: Clock, _asker: Pod) -> None:
        for obj in objects:
            state.upsert(obj)  # type: ignore[arg-type]

    return change


def _delete(obj: object) -> Change:
    def change(state: ClusterState, _clock: Clock, _asker: Pod) -> None:
        state.delete(obj)  # type: ignore[arg-type]

    return change


REPORTS = {
    "loading": reported(ReportedState.LOADING, bytes=16 * 10**9),
    "ready": reported(ReportedState.READY, bytes=16 * 10**9),
    # Five minutes before it goes, a minute from now, it takes no more pods.
    "leaving": reported(ReportedState.READY, leaves_at="2026-01-01T00:21:00Z"),
    "full": Report(directory="/var/lib/models", unlisted=Unlisted(count=1, digest="sha256:0")),
}


def _starting(name: str, model: str) -> Pod:
    """Return a pod that is on its way to Ready and brings a model in."""
    bound = vllm(f"starting-{name}", model=model, memory="0", on=name)
    return msgspec.structs.replace(bound, status=PodStatus(phase="Pending"))


def _reporting(name: str, report: str) -> Pod:
    return reporting_pod(name, READY, REPORTS[report])


def _lease(name: str, done: int) -> Lease:
    """Return what the loader of a node says of its download, in percent."""
    transfer = Transfer(
        path="llama-3.1-8b-instruct",
        bytes_done=done * 10**9,
        bytes_total=100 * 10**9,
        bytes_per_second=10**9,
    )
    return loader_lease(name, "2026-01-01T00:15:00Z", progress=Progress(transfers=(transfer,)))


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """Draw one thing that may happen between two questions."""
    name = draw(st.sampled_from(NAMES[:5]))
    size = draw(st.sampled_from(["1Gi", "30Gi"]))
    status = draw(st.sampled_from([READY, LOADING, CRASHING, STOPPED]))
    return draw(
        st.sampled_from(
            [
                _upsert(node(name, draw(st.sampled_from(["4Gi", "64Gi"])))),
                _delete(node(name)),
                _upsert(tmpfs(f"t-{name}", size=size, memory="1Gi", on=name)),
                _delete(tmpfs(f"t-{name}", on=name)),
                _upsert(loader()),
                _upsert(loader_pod(name, status)),
                _delete(loader_pod(name, READY)),
                _upsert(vllm(f"reader-{name}", memory="0", on=name)),
                _upsert(_starting(name, draw(st.sampled_from([MODEL, "/models/other-70b"])))),
                _upsert(claim(phase=draw(st.sampled_from(["Bound", "Pending"])))),
                _upsert(volume("pv-model-store", zone=draw(st.sampled_from([None, "a"])))),
                _upsert(job("download", draw(st.sampled_from([(), ("Failed",), ("Complete",)])))),
                _upsert(_reporting(name, draw(st.sampled_from(list(REPORTS))))),
                _upsert(_lease(name, draw(st.sampled_from([1, 90])))),
                _delete(_lease(name, 1)),
                _nominate(name),
                _keep(name, claim=draw(st.sampled_from([HOLD, 1]))),
                _wait(draw(st.sampled_from([1.0, 61.0, 400.0, -400.0]))),
            ]
        )
    )


def answers(asker: Pod, names: tuple[str, ...], context: Context) -> tuple[bytes, bytes]:
    """Return both verbs' answers as they would be sent."""
    args = ExtenderArgs(pod=asker, names=names, nodes=None)
    result, _ = filter_nodes(args, context)
    ranking, _ = prioritize_nodes(args, context)
    return write_filter_result(result, args), write_priorities(ranking)


KNOWN = (
    *(node(name) for name in NAMES[:4]),
    loader(),
    loader_pod(NAMES[0], READY),
    loader_pod(NAMES[1], STOPPED),
    our_loader(),
    _reporting(NAMES[2], "loading"),
    _lease(NAMES[2], 1),
    claim(),
    volume("pv-model-store"),
)


READER = vllm("reader", on=NAMES[0], volume={"persistentVolumeClaim": {"claimName": "model-store"}})


BY_ITSELF = [_delete(loader_pod(NAMES[0], READY)), _delete(loader_pod(NAMES[1], STOPPED))]
"""The loader is left without pods: what they left behind is stale."""


def twin(asker: Pod) -> Pod:
    """Return another pod of the same workload."""
    metadata = msgspec.structs.replace(asker.metadata, name="twin", uid="twin")
    return msgspec.structs.replace(asker, metadata=metadata)


@given(askers, st.permutations(NAMES), st.lists(changes(), max_size=15), st.sampled_from([1, 99]))
@example(vllm(), list(NAMES), [_wait(400.0), _wait(-400.0)], 99)
@example(from_claim(), list(NAMES), [_upsert(volume("pv-model-store", zone="a"))], 99)
@example(from_claim(), list(NAMES), [_upsert(job("download", ())), _upsert(READER)], 99)
@example(vllm(), list(NAMES), [_upsert(loader_pod(NAMES[2], READY))], 99)
@example(
    vllm(), list(NAMES), [_upsert(_reporting(NAMES[2], "leaving")), _wait(61.0), _wait(-61.0)], 99
)
@example(vllm(), list(NAMES), [*BY_ITSELF, _delete(loader())], 99)
@example(vllm(), list(NAMES), [BY_ITSELF[0], _delete(loader())], 99)
@example(annotated(vllm(), need="preferred"), list(NAMES), [_upsert(_lease(NAMES[2], 90))], 99)
@example(
    vllm(),
    list(NAMES),
    [_upsert(_reporting(NAMES[3], "full"), _lease(NAMES[3], 1)), _wait(100.0)],
    99,
)
@example(memory_pod(size="40Gi"), list(NAMES), [_keep(NAMES[0], claim=1)], 99)
def test_an_answer_is_the_same_whatever_was_asked_before(
    asker: Pod, order: list[str], history: list[Change], kept: int
) -> None:
    """Also where so much has changed that it is no longer known what."""
    clock = Clock()
    state = cluster(*KNOWN, clock=clock)
    asked_before = Context(state=state)
    names = tuple(order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "KEPT_CHANGES", kept)
        for change in history:
            answers(asker, names, asked_before)
            change(state, clock, asker)
            for pod in (asker, twin(asker)):
                anew = answers(pod, names, Context(state=state))
                assert answers(pod, names, asked_before) == anew


def test_only_the_nodes_that_changed_are_judged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    state = cluster(*(node(f"n{number}") for number in range(100)))
    context = Context(state=state)
    args = ExtenderArgs(
        pod=memory_pod(size="40Gi"),
        names=tuple(f"n{number}" for number in range(100)),
        nodes=None,
    )
    assert len(filter_nodes(args, context)[0].names) == 100
    judged: list[str] = []
    judge_one = Judge.reason

    def noted(judge: Judge, name: str) -> Reason | None:
        judged.append(name)
        return judge_one(judge, name)

    monkeypatch.setattr(context.refusals, "_ask", noted)
    state.upsert(tmpfs("taker", size="40Gi", on="n7"))
    assert "n7" not in filter_nodes(args, context)[0].names
    assert judged == ["n7"]


def test_where_nodes_are_few_kinds_of_pods_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_ANSWERS", 4_000)
    context = Context(state=cluster(node("a")), refusals=refusals())
    for number in range(200):
        pod = memory_pod(size=f"{number + 1}Gi")
        filter_nodes(ExtenderArgs(pod=pod, names=("a",), nodes=None), context)
    assert len(context.refusals._kept) <= 20


def test_pods_that_differ_in_their_labels_alone_share_what_was_worked_out() -> None:
    context = Context(state=cluster(node("a")))
    for number in range(5):
        pod = memory_pod(size="40Gi")
        labels = {"batch.kubernetes.io/controller-uid": f"{number}"}
        metadata = msgspec.structs.replace(pod.metadata, uid=f"u{number}", labels=labels)
        pod = msgspec.structs.replace(pod, metadata=metadata)
        filter_nodes(ExtenderArgs(pod=pod, names=("a",), nodes=None), context)
    assert len(context.refusals._kept) == 1
