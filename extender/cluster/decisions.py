"""The decision on a bound pod: the annotation that bind writes and that the watch shows again."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from extender.cluster.holdings import Evidence, ModelState
from extender.cluster.tiers import Tier
from extender.kube.objects import Pod
from extender.workload.model import Need, Strategy

DECISION_ANNOTATION = "modelcache.dev/decision"
"""On bound pods, by the extender: what was decided and why, JSON with a schema version."""

DECISION_VERSION = 1

_Estimate = Annotated[float, Meta(gt=0, le=1e6)]
_Factor = Annotated[float, Meta(gt=0, le=100)]


class BoundDecision(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Why a pod went where it is. Sizes are bytes.

    ``estimated_start_seconds`` has ``correction`` as a factor in it. ``tier`` is where the weights
    are read from, None where that cannot be told; ``evidence`` that they are there.
    """

    version: int = DECISION_VERSION
    time: float
    node: str
    model: str | None = None
    strategy: Strategy | None = None
    need: Need | None = None
    state: ModelState | None = None
    evidence: Evidence | None = None
    tier: Tier | None = None
    estimated_start_seconds: _Estimate | None = None
    correction: _Factor = 1.0
    memory_demand_bytes: int = 0
    memory_free_bytes: int | None = None

    def annotations(self) -> dict[str, str]:
        """Return the annotation, to be sent with the Binding."""
        return {DECISION_ANNOTATION: msgspec.json.encode(self).decode()}


_decoder = msgspec.json.Decoder(BoundDecision)


def decision_on(pod: Pod) -> BoundDecision | None:
    """Read what a pod carries; None where it is nothing of this version, or of another node.

    Whoever creates a pod can write any text there, until bind writes over it.
    """
    text = pod.metadata.annotations.get(DECISION_ANNOTATION)
    if text is None:
        return None
    try:
        read = _decoder.decode(text)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        return None
    ours = read.version == DECISION_VERSION and read.node == pod.spec.node_name
    return read if ours else None
