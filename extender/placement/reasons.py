"""Why a node is refused: stable tokens, and the words for each, which everybody takes from here.

What the event says goes to kube-scheduler, which counts equal texts into one line of the pod's
event: it holds no names and no live numbers. Details belong to the decision log and to ``explain``.
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
    NODE_GONE = "NodeGone"
    KNOWLEDGE_STALE = "KnowledgeStale"
    OTHERS_LEAVE = "OthersLeave"
    """Of an eviction alone: others make way already."""


OF_THE_CACHE = frozenset(
    {Reason.MODEL_ABSENT, Reason.MODEL_LOADING, Reason.MODEL_FAILED, Reason.MODEL_STALE}
)
"""Refusals for what a node's cache holds."""

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
    Reason.NODE_GONE: "node was deleted",
    Reason.KNOWLEDGE_STALE: "the model-cache extender has lost sight of the cluster",
    Reason.OTHERS_LEAVE: "other pods are already leaving the node that the pod is nominated to",
}
"""What the pod's event says."""

WAITS_FOR: dict[Reason, str] = {
    Reason.MODEL_ABSENT: "a loader to put the model on a node",
    Reason.MODEL_LOADING: "a node's loader to finish",
    Reason.MODEL_FAILED: "the loader that failed to be mended",
    Reason.MODEL_STALE: "the loader's pod to be Ready again",
    Reason.CLAIM_MISSING: "its claim to be created",
    Reason.CLAIM_NOT_BOUND: "its claim to be bound",
    Reason.CLAIM_UNREACHABLE: "a node that the claim's volume can be mounted on",
    Reason.CLAIM_FILLING: "the job that writes the model to end",
    Reason.CLAIM_FILL_FAILED: "the job that failed to be run again",
    Reason.INSUFFICIENT_MEMORY: "other pods to leave, or a node with more memory",
    Reason.NODE_UNKNOWN: "the watch to show the node, which takes moments",
    Reason.NODE_GONE: "another node: this one was deleted",
    Reason.KNOWLEDGE_STALE: "the watch to recover: see /readyz",
    Reason.OTHERS_LEAVE: "the pods that make way for it to be gone",
}
"""What would end it, for people: the rest of a sentence that begins with "the pod waits for"."""
