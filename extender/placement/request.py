"""One pod's question, prepared once for all nodes."""

from __future__ import annotations

import msgspec

from extender.cluster.claims import JobFacts, JobState
from extender.cluster.inventory import Answer
from extender.cluster.memory import MemoryDemand
from extender.cluster.view import View
from extender.cluster.warmth import warm_key
from extender.placement.reasons import Reason
from extender.workload.model import DeclaredModel, ModelReference, Need, Source, Workload
from extender.workload.names import Kind, parse_name


class PodRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is decided about: one pod and what it asks for.

    ``node`` is where it counts in the ledger already, empty while it does not. ``created`` is UNIX
    time in seconds, None where it is not known.
    """

    uid: str
    namespace: str
    name: str
    workload: Workload
    demand: MemoryDemand
    priority: int = 0
    node: str = ""
    created: float | None = None

    @property
    def needs_certainty(self) -> bool:
        """Tell whether a wrong yes would hurt: a required model, or memory nobody else counts."""
        required = any(r.need is Need.REQUIRED for r in self.workload.references)
        return required or self.demand.volume_bytes > 0 or self.demand.unbounded


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Why a node refuses a pod for one of its models; ``detail`` is for people.

    ``claim`` is the one that the model is in, ``job`` what was to write it there, by name.
    """

    reason: Reason
    detail: str
    claim: str = ""
    job: str = ""


def cache_answers(request: PodRequest, view: View) -> dict[ModelReference, Answer]:
    """Look up the node caches of the pod's references, memory volumes' origins included."""
    answers = {}
    for reference in request.workload.references:
        held = cached_reference(reference)
        if held is not None and held.host_path is not None:
            answers[reference] = view.inventory.lookup(held.host_path, request.namespace)
    return answers


def cached_reference(reference: ModelReference) -> ModelReference | None:
    """Return the reference whose host path matters: its own, or what fills its memory volume."""
    for candidate in (reference, reference.origin):
        if candidate is not None and candidate.source is Source.HOST_PATH:
            return candidate
    return None


def claim_problem(reference: ModelReference, namespace: str, view: View) -> Refusal | None:
    """Return what keeps a pod from opening its model in a claim anywhere, if anything does."""
    name = reference.claim or ""
    claim = view.claim(namespace, name)
    if claim is None:
        return Refusal(Reason.CLAIM_MISSING, f"claim {namespace}/{name} does not exist", name)
    if not claim.bound and not claim.waits_for_consumer:
        return Refusal(Reason.CLAIM_NOT_BOUND, f"claim {namespace}/{name} is not bound", name)
    return _unfinished_write(reference, namespace, view)


def _unfinished_write(reference: ModelReference, namespace: str, view: View) -> Refusal | None:
    """Withhold only the model that a Job writes, and only until it was first completed.

    Where a Ready pod reads it, it was: the Job may be another run, the first one long forgotten.
    """
    if reference.claim_path is None:
        return None
    completed = view.completed_writes.get(namespace, ())
    if (namespace, reference.claim, reference.claim_path) in completed:
        return None
    writers = [
        job
        for job, model in view.writers(namespace, reference.claim or "")
        if _same_model(model, reference.claim_path)
    ]
    key = warm_key(reference, namespace)
    if not writers or any(key in node.warm for node in view.nodes.values()):
        return None
    running = next((job for job in writers if job.state is JobState.RUNNING), None)
    job: JobFacts = running or writers[0]
    who, claim = f"job {job.namespace}/{job.name}", reference.claim or ""
    if job.state is JobState.RUNNING:
        return Refusal(Reason.CLAIM_FILLING, f"{who} has not completed yet", claim, job.name)
    detail = f"{who} failed: {job.reason}"
    return Refusal(Reason.CLAIM_FILL_FAILED, detail, claim, job.name)


def _same_model(written: DeclaredModel, opened: str) -> bool:
    """Compare what a Job writes with a path inside the claim; an empty path is its root.

    A hub's model that is written to the root is no other than the one that is opened there. What is
    copied there (a directory, a bucket) may hold any number of models.
    """
    path = written.path
    if not path:
        return not opened or parse_name(written.model or "").kind is not Kind.HUB
    inside = opened.startswith(f"{path}/") or path.startswith(f"{opened}/")
    return inside or opened in {"", path}
