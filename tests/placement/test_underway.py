"""What is under way on a node counts: bandwidth is shared, and what one brings in is for all."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from extender.cluster.holdings import ModelState
from extender.cluster.reservations import Reservation
from extender.cluster.state import ClusterState
from extender.cluster.warmth import openings
from extender.kube.objects import ContainerStatus, Pod, PodStatus
from extender.placement.estimate import NOBODY, Others, Start, from_cache
from extender.placement.policy import GB, Policy
from extender.report import Progress, Report, ReportedModel, ReportedState, Transfer
from tests.builders import MODEL, READY, loader_lease, node, our_loader, reporting_pod, vllm
from tests.placement.situations import annotated, cluster, judge
from tests.placement.test_estimate import POLICIES, SIZES, held

SOME = st.lists(SIZES, max_size=4).map(tuple)
OTHERS = st.builds(Others, same=st.booleans(), reading=SOME, fetching=SOME)
THERE_OR_NOT = st.sampled_from([ModelState.READY, None])
OTHER_MODEL = "/models/other-70b"


def cold(size: int, state: ModelState | None, others: Others, policy: Policy) -> Start:
    return from_cache(size, held(state), warm=False, policy=policy, others=others)


@given(size=SIZES, state=THERE_OR_NOT, others=OTHERS, more=SIZES, policy=POLICIES)
def test_the_more_others_move_the_later(
    size: int, state: ModelState | None, others: Others, more: int, policy: Policy
) -> None:
    busier = msgspec.structs.replace(
        others, reading=(*others.reading, more), fetching=(*others.fetching, more)
    )
    later = cold(size, state, busier, policy).seconds
    assert cold(size, state, others, policy).seconds <= later * (1 + 1e-9)


@given(size=SIZES, others=OTHERS, policy=POLICIES)
def test_nobody_waits_for_more_than_others_move_nor_behind_the_whole_of_a_larger_model(
    size: int, others: Others, policy: Policy
) -> None:
    alone, beside = (cold(size, None, one, policy) for one in (NOBODY, others))
    hub, disk = policy.bandwidths.hub * GB, policy.bandwidths.disk * GB
    for before, after, moved, speed in (
        (alone.fetch, beside.fetch, others.fetching, hub),
        (alone.read, beside.read, others.reading, disk),
    ):
        most = min(sum(moved), size * len(moved)) / speed
        assert after <= (before + most) * (1 + 1e-9)


@given(size=SIZES, state=st.sampled_from(ModelState), others=OTHERS, policy=POLICIES)
def test_what_is_brought_in_for_another_pod_is_there_no_later_for_it(
    size: int, state: ModelState, others: Others, policy: Policy
) -> None:
    assume(policy.bandwidths.page_cache >= policy.bandwidths.disk)
    alone, along = (msgspec.structs.replace(others, same=same) for same in (False, True))
    seconds = cold(size, state, alone, policy).seconds
    assert cold(size, state, along, policy).seconds <= seconds * (1 + 1e-9)


@given(size=SIZES, others=OTHERS, policy=POLICIES)
def test_what_is_being_brought_in_never_beats_what_is_there(
    size: int, others: Others, policy: Policy
) -> None:
    assume(policy.bandwidths.page_cache >= policy.bandwidths.disk)
    warm = from_cache(size, held(ModelState.READY), warm=True, policy=policy, others=others)
    along = msgspec.structs.replace(others, same=True)
    ready = cold(size, ModelState.READY, along, policy)
    absent = cold(size, None, along, policy)
    ulp = 1 + 1e-9  # the same sums in another order
    assert warm.seconds <= ready.seconds * ulp
    assert ready.seconds <= absent.seconds * ulp


# -- who counts ----------------------------------------------------------------------------------


def nodes(state: ReportedState | None = None) -> ClusterState:
    """Return nodes a and b, alike, whose loaders have the model or have it not."""
    models = (ReportedModel(path="llama-3.1-8b-instruct", state=state),) if state else ()
    report = Report(directory="/var/lib/models", models=models)
    return cluster(
        our_loader(),
        *(node(name) for name in "ab"),
        *(reporting_pod(name, READY, report) for name in "ab"),
    )


def seconds(asker: Pod, state: ClusterState) -> tuple[float, float]:
    """Return the estimated starts on a and b."""
    asked = judge(asker, state)
    a, b = (asked.start(asked.view.nodes[name]).seconds for name in "ab")
    return a, b


ASKER = annotated(vllm("asker"), need="preferred")


def starting(name: str = "first", model: str = MODEL, *, restarts: int = 0) -> Pod:
    """Return a pod on node a that is not Ready yet."""
    bound = vllm(name, model=model, on="a")
    containers = (ContainerStatus(restart_count=restarts),)
    return msgspec.structs.replace(
        bound, status=PodStatus(phase="Pending", container_statuses=containers)
    )


def test_the_next_pod_of_a_model_goes_where_it_is_being_fetched() -> None:
    """Else a burst has it fetched once a pod."""
    state = nodes()
    a, b = seconds(ASKER, state)
    assert a == b
    state.upsert(starting())
    a, b = seconds(ASKER, state)
    assert a < b


def test_so_it_does_before_the_watch_shows_the_first_one_there() -> None:
    state = nodes()
    request = judge(starting(), state).request
    entry = Reservation(
        uid=request.uid,
        node="a",
        bytes=0,
        expires=state.now() + 60,
        claim=1,
        opens=openings(request.uid, request.workload, request.namespace),
    )
    state.hold(entry)
    a, b = seconds(ASKER, state)
    assert a < b


def test_a_node_where_a_start_has_failed_before_attracts_nobody() -> None:
    """Else all pods of a model followed the first to a node that cannot fetch it."""
    state = nodes()
    state.upsert(starting(restarts=1))
    a, b = seconds(ASKER, state)
    assert a == b


def test_a_pod_does_not_count_for_itself() -> None:
    state = nodes()
    own = annotated(starting("own"), need="preferred")
    state.upsert(own)
    a, b = seconds(own, state)
    assert a == b


def test_of_two_equal_nodes_the_one_whose_pods_read_another_model_is_later() -> None:
    state = nodes(ReportedState.READY)
    state.upsert(starting(model=OTHER_MODEL))
    a, b = seconds(ASKER, state)
    assert a > b


def test_of_two_equal_nodes_the_one_that_downloads_another_model_is_later() -> None:
    state = nodes()
    transfer = Transfer(path="other-70b", bytes_done=0, bytes_total=10 * GB)
    state.upsert(
        loader_lease("a", "2026-01-01T00:15:00Z", progress=Progress(transfers=(transfer,)))
    )
    a, b = seconds(ASKER, state)
    assert a - b == pytest.approx(10 / Policy().bandwidths.hub)
