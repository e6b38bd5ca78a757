"""Why a node is refused: stable tokens, and one short stable text each.

The text goes to kube-scheduler, which counts equal texts into one line of the pod's event: it holds
no names and no live numbers. Details belong to the decision log and to ``explain``.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """CamelCase tokens as in pod conditions; the only text used as a metric label."""

    MODEL_ABSENT = "ModelAbsent"
    MODEL_LOADING = "ModelLoading"
    MODEL_FAILED = "ModelFailed"
    MODEL_STALE = "ModelStale"
    CLAIM_MISSING = "ClaimMissing"
    CLAIM_NOT_BOUND = "ClaimNotBound"
    CLAIM_UNREACHABLE = "ClaimUnreachable"
    CLAIM_FILLING = "ClaimFilling"
    CLAIM_FILL_FAILED = "ClaimFillFailed"
    INSUFFICIENT_MEMORY = "InsufficientMemory"
    NODE_UNKNOWN = "NodeUnknown"
    KNOWLEDGE_STALE = "KnowledgeStale"


TEXTS: dict[Reason, str] = {
    Reason.MODEL_ABSENT: "node cache does not hold the model",
    Reason.MODEL_LOADING: "node cache is still loading the model",
    Reason.MODEL_FAILED: "node cache failed to load the model",
    Reason.MODEL_STALE: "node cache has not been vouched for lately",
    Reason.CLAIM_MISSING: "model claim does not exist",
    Reason.CLAIM_NOT_BOUND: "model claim is not bound",
    Reason.CLAIM_UNREACHABLE: "model claim cannot be mounted on the node",
    Reason.CLAIM_FILLING: "a job is still writing the model to its claim",
    Reason.CLAIM_FILL_FAILED: "the job that writes the model to its claim failed",
    Reason.INSUFFICIENT_MEMORY: "not enough memory once memory-backed volumes are counted "
    "(no autoscaler does)",
    Reason.NODE_UNKNOWN: "node is not known to the model-cache extender yet",
    Reason.KNOWLEDGE_STALE: "the model-cache extender has lost sight of the cluster",
}
"""What the pod's event says."""
