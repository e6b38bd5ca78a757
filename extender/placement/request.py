"""One pod's question, prepared once for all nodes."""

from __future__ import annotations

import msgspec

from extender.cluster.claims import JobFacts, JobState
from extender.cluster.inventory import Answer
from extender.cluster.memory import MemoryDemand
from extender.cluster.view import View
from extender.placement.reasons import Reason
from extender.workload.model import ModelReference, Need, Source, Workload


class PodRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is decided about: one pod and what it asks for.

    ``node`` is where it counts in the ledger already, empty while it does not.
    """

    uid: str
    namespace: str
    name: str
    workload: Workload
    demand: MemoryDemand
    priority: int = 0
    node: str = ""

    @property
    def needs_certainty(self) -> bool:
        """Tell whether a wrong yes would hurt: a required model, or memory nobody else counts."""
        required = any(r.need is Need.REQUIRED for r in self.workload.references)
        return required or self.demand.volume_bytes > 0 or self.demand.unbounded


class ClaimProblem(msgspec.Struct, frozen=True):
    """Why a claim keeps a pod from every node; ``detail`` is for people."""

    reason: Reason
    detail: str


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


def claim_problem(reference: ModelReference, namespace: str, view: View) -> ClaimProblem | None:
    """Return what keeps a pod from opening its model in a claim anywhere, if anything does."""
    claim = view.claim(namespace, reference.claim or "")
    if claim is None:
        return ClaimProblem(
            Reason.CLAIM_MISSING, f"claim {namespace}/{reference.claim} does not exist"
        )
    if not claim.bound and not claim.waits_for_consumer:
        return ClaimProblem(
            Reason.CLAIM_NOT_BOUND, f"claim {namespace}/{reference.claim} is not bound"
        )
    return _unfinished_write(reference, namespace, view)


def _unfinished_write(reference: ModelReference, namespace: str, view: View) -> ClaimProblem | None:
    """Withhold only the model that a Job writes, and only until it was first completed."""
    if reference.claim_path is None:
        return None
    writers = [
        job
        for job, path in view.writers(namespace, reference.claim or "")
        if _same_model(path, reference.claim_path)
    ]
    running = next((job for job in writers if job.state is JobState.RUNNING), None)
    job: JobFacts | None = running or next(iter(writers), None)
    if job is None:
        return None
    if job.state is JobState.RUNNING:
        return ClaimProblem(
            Reason.CLAIM_FILLING, f"job {job.namespace}/{job.name} has not completed yet"
        )
    return ClaimProblem(
        Reason.CLAIM_FILL_FAILED,
        f"job {job.namespace}/{job.name} failed: {job.reason}",
    )


def _same_model(written: str, opened: str) -> bool:
    """Compare paths inside a claim; an empty one is the whole claim."""
    if not written or not opened:
        return True
    return written == opened or opened.startswith(f"{written}/") or written.startswith(f"{opened}/")
