"""Claims: bound or not, reachable from a node or not, and which Job still fills them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from extender.kube.objects import (
    Job,
    NodeSelector,
    NodeSelectorTerm,
    PersistentVolume,
    PersistentVolumeClaim,
    SelectorRequirement,
    StorageClass,
)
from extender.workload.model import ClaimWriter

OF_MANY_NODES = frozenset({"ReadWriteMany", "ReadOnlyMany"})
"""Access modes of a volume that may be attached to several nodes at once."""

_SELECTED_NODE = "volume.kubernetes.io/selected-node"
_TERMS_SAID = 3


class JobState(StrEnum):
    """Where a Job stands."""

    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"


class JobFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A Job that writes models into claims of its namespace."""

    uid: str
    namespace: str
    name: str
    state: JobState
    writes: tuple[ClaimWriter, ...]
    reason: str = ""


def job_state(job: Job) -> tuple[JobState, str]:
    """Read a Job's conditions: the state, and the reason where it failed."""
    for condition in job.status.conditions:
        if condition.status != "True":
            continue
        if condition.type in {"Complete", "SuccessCriteriaMet"}:
            return JobState.COMPLETE, ""
        if condition.type in {"Failed", "FailureTarget"}:
            return JobState.FAILED, condition.reason or "Failed"
    return JobState.RUNNING, ""


def ran_nothing(job: Job) -> bool:
    """Tell whether a Job is complete without a pod (``completions: 0``): it has written nothing."""
    return job_state(job)[0] is JobState.COMPLETE and not job.status.succeeded


def job_facts(uid: str, job: Job, writes: tuple[ClaimWriter, ...]) -> JobFacts:
    """Reduce a Job that writes these models to what is kept of it."""
    state, reason = job_state(job)
    return JobFacts(
        uid=uid,
        namespace=job.metadata.namespace,
        name=job.metadata.name,
        state=state,
        writes=writes,
        reason=reason,
    )


class ClaimFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A claim with what binds it to nodes: the volume's affinity, or the class's topologies.

    ``volume`` is the name of its volume, ``lost`` whether that is gone for good. ``single_pod``:
    one pod at a time may have it (ReadWriteOncePod). ``selected_node`` is where its volume is being
    made, once that was chosen.
    """

    bound: bool
    waits_for_consumer: bool = False
    affinity: NodeSelector | None = None
    topologies: tuple[NodeSelectorTerm, ...] = ()
    volume: str = ""
    lost: bool = False
    deleted: bool = False
    single_pod: bool = False
    selected_node: str = ""

    def reachable(self, node: str, labels: Mapping[str, str]) -> bool:
        """Tell whether a node can mount the claim's volume, as far as the API says."""
        if self.bound:
            return self.affinity is None or selects(self.affinity, node, labels)
        return not self.topologies or _any_holds(self.topologies, node, labels)


def claim_facts(
    claim: PersistentVolumeClaim,
    volumes: Mapping[str, PersistentVolume],
    classes: Mapping[str, StorageClass],
) -> ClaimFacts:
    """Join a claim with its volume and its class."""
    volume = volumes.get(claim.spec.volume_name)
    storage_class = classes.get(claim.spec.storage_class_name or "")
    affinity = volume.spec.node_affinity if volume else None
    phase = claim.status.phase
    late = storage_class is not None and storage_class.volume_binding_mode == "WaitForFirstConsumer"
    terms = storage_class.allowed_topologies if storage_class else ()
    return ClaimFacts(
        volume=claim.spec.volume_name,
        lost=phase == "Lost",
        deleted=bool(claim.metadata.deletion_timestamp),
        single_pod="ReadWriteOncePod" in claim.spec.access_modes,
        selected_node=claim.metadata.annotations.get(_SELECTED_NODE, ""),
        bound=phase == "Bound",
        # A claim that lost its volume waits for nobody any more.
        waits_for_consumer=late and phase != "Lost",
        affinity=affinity.required if affinity else None,
        topologies=tuple(
            NodeSelectorTerm(match_expressions=term.match_label_expressions) for term in terms
        ),
    )


def selects(selector: NodeSelector, node: str, labels: Mapping[str, str]) -> bool:
    """Tell whether a selector matches a node, by its name and its labels."""
    return _any_holds(selector.node_selector_terms, node, labels)


def named_nodes(selector: NodeSelector) -> tuple[str, ...]:
    """Return the nodes that each term of a selector names; empty where one names none.

    A DaemonSet's pods have such ones, of one node (``ReplaceDaemonSetPodNodeNameNodeAffinity`` in
    kubernetes/pkg/controller/daemon/util/daemonset_util.go).
    """
    found: list[str] = []
    for term in selector.node_selector_terms:
        names = [one.values for one in term.match_fields if one.operator == "In"]
        if not names:
            return ()
        found += names[0]
    return tuple(dict.fromkeys(found))


def _any_holds(terms: Sequence[NodeSelectorTerm], node: str, labels: Mapping[str, str]) -> bool:
    return any(_term_holds(term, node, labels) for term in terms)


def _term_holds(term: NodeSelectorTerm, node: str, labels: Mapping[str, str]) -> bool:
    """Evaluate one term; an empty one matches nothing, as in the API."""
    if not term.match_expressions and not term.match_fields:
        return False
    return all(_holds(req, labels) for req in term.match_expressions) and all(
        _holds(req, {"metadata.name": node}) for req in term.match_fields
    )


def unlike(selector: NodeSelector, labels: Mapping[str, str]) -> str:
    """Say what a node has in place of what a selector asks for, for people.

    Empty where the selector has several terms: it is enough to be as one of them says.
    """
    if len(selector.node_selector_terms) != 1:
        return ""
    (term,) = selector.node_selector_terms
    keys = dict.fromkeys(one.key for one in term.match_expressions if not _holds(one, labels))
    return " and ".join(f"{key}: {labels[key]}" if key in labels else f"no {key}" for key in keys)


def in_words(selector: NodeSelector) -> str:
    """Say which nodes a selector matches, for people; of many terms the first few."""
    terms = [
        " and ".join(_said(one) for one in (*term.match_expressions, *term.match_fields))
        for term in selector.node_selector_terms[:_TERMS_SAID]
    ]
    more = len(selector.node_selector_terms) > _TERMS_SAID
    return " or ".join(terms) + (" or ..." if more else "")


def _said(requirement: SelectorRequirement) -> str:
    values = ", ".join(requirement.values)
    return f"{requirement.key} {requirement.operator}" + (f" [{values}]" if values else "")


def _holds(requirement: SelectorRequirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            return _compares(requirement, value)
        case _:
            return False


def _compares(requirement: SelectorRequirement, value: str | None) -> bool:
    try:
        left, right = int(value or ""), int(requirement.values[0])
    except (ValueError, IndexError):
        return False
    return left > right if requirement.operator == "Gt" else left < right
