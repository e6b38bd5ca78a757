"""Random clusters, and the pods that are asked about in them."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from extender.cluster.state import ClusterState
from extender.kube.objects import Pod
from tests.builders import (
    CRASHING,
    LOADING,
    READY,
    STOPPED,
    claim,
    job,
    loader,
    loader_pod,
    node,
    tmpfs,
    vllm,
    volume,
)
from tests.placement.situations import (
    GI,
    IMAGE,
    ZONE,
    annotated,
    cluster,
    copied_to_memory,
    from_claim,
    from_hub,
    from_image,
    memory_pod,
    plain,
    provides,
)

NAMES = tuple(f"node-{number}" for number in range(6))


@dataclass(frozen=True)
class Drawn:
    """A cluster with what a test wants to work out by itself: gibibytes free on each node."""

    state: ClusterState
    free: dict[str, int]


@st.composite
def clusters(draw: st.DrawFn) -> Drawn:
    """Draw up to five nodes with caches in any state, and memory that is taken."""
    state, free = cluster(), {}
    if draw(st.booleans()):
        state.upsert(loader())
    for name in draw(st.lists(st.sampled_from(NAMES[:5]), unique=True)):
        total = draw(st.sampled_from([4, 16, 64]))
        taken = draw(st.lists(st.integers(1, 30), max_size=3))
        annotations = provides() if draw(st.integers(0, 5)) == 0 else {}
        images = {IMAGE: GI} if draw(st.booleans()) else {}
        labels = {ZONE: draw(st.sampled_from("ab"))}
        state.upsert(
            node(name, f"{total}Gi", annotations=annotations, images=images, labels=labels)
        )
        for number, size in enumerate(taken):
            state.upsert(tmpfs(f"{name}-{number}", size=f"{size}Gi", memory="1Gi", on=name))
        status = draw(st.sampled_from([None, READY, LOADING, CRASHING, STOPPED]))
        if status is not None:
            state.upsert(loader_pod(name, status))
        if draw(st.booleans()):
            # A reader of the model, which asks for no memory.
            state.upsert(vllm(f"reader-{name}", memory="0", on=name))
        free[name] = total - sum(size + 1 for size in taken)
    if draw(st.booleans()):
        state.upsert(claim(phase=draw(st.sampled_from(["Bound", "Pending"]))))
        state.upsert(volume("pv-model-store", zone=draw(st.sampled_from([None, "a"]))))
    if draw(st.booleans()):
        state.upsert(job("download", draw(st.sampled_from([(), ("Failed",), ("Complete",)]))))
    return Drawn(state, free)


ASKERS: dict[str, Pod] = {
    "plain": plain(),
    "node cache": vllm(),
    "node cache, preferred": annotated(vllm(), need="preferred"),
    "claim": from_claim(),
    "image": from_image(),
    "hub": from_hub(),
    "copied to memory": copied_to_memory(),
    "small memory": memory_pod(request="1Gi", size="2Gi"),
    "large memory": memory_pod(request="1Gi", size="30Gi"),
    "unsized memory": memory_pod(request="1Gi"),
}

askers = st.sampled_from(sorted(ASKERS)).map(ASKERS.__getitem__)
questions = st.lists(st.sampled_from(NAMES), unique=True).map(tuple)
"""Node names as they are asked about; some are of no known node."""
