"""What one witness says of one path on one node, and which of two witnesses to believe."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from extender.kube.lives import ContainerLog

LEAVING_SECONDS = 300.0
"""What leaves its node within so many seconds takes no more pods: one that comes late would find
nothing to start from a second time. Far more than the clocks of two machines differ by."""


class ModelState(StrEnum):
    """State of a model on a node, best first."""

    READY = "ready"
    STALE = "stale"
    LOADING = "loading"
    FAILED = "failed"
    ABSENT = "absent"


class Evidence(StrEnum):
    """How sure "the model is there" is, surest first."""

    VERIFIED = "verified"
    DECLARED = "declared"
    ASSUMED = "assumed"


_STATE_RANK = {state: rank for rank, state in enumerate(ModelState)}
_EVIDENCE_RANK = {evidence: rank for rank, evidence in enumerate(Evidence)}


class Holding(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one witness says of one path on one node.

    ``path`` is the model's directory, or the loader's whole directory where what it loads cannot be
    told (evidence ``assumed``). ``since`` is the UNIX time in seconds of the last state change as
    far as it is known. ``reason`` is why it is not ready, in words or in the kubelet's own.
    ``witness`` names the loader pod (``namespace/name``) or the node's annotation, ``namespace`` is
    the loader's, ``log`` where that pod says more (None where nothing of it has run). Only where
    the loader reported: ``bytes``, ``proven_at`` and ``told`` (when it was reported; UNIX seconds),
    ``entry`` (the path as in the report, and so on the loader's Lease), ``on_demand`` (it is
    fetched once a pod waits for it) and ``leaves_at`` (UNIX seconds: it goes then, because the
    catalog does not have it there any more).
    """

    path: str
    state: ModelState
    evidence: Evidence
    witness: str
    namespace: str = ""
    model: str | None = None
    reason: str = ""
    log: ContainerLog | None = None
    since: float | None = None
    bytes: int | None = None
    proven_at: float | None = None
    told: float = 0.0
    entry: str = ""
    on_demand: bool = False
    leaves_at: float | None = None

    def leaves_soon(self, now: float) -> bool:
        """Tell whether it goes within minutes, or is only kept for the pods that read it."""
        return self.leaves_at is not None and now > self.leaves_at - LEAVING_SECONDS

    def rank(self) -> tuple[int, float, int]:
        """Return a sort key: what is surer comes first, then what is newer, then the better.

        A loader that declares a model knows more of it than one that merely owns the directory. Of
        two reports the newer one counts, whatever it says.
        """
        return _EVIDENCE_RANK[self.evidence], -self.told, _STATE_RANK[self.state]


def better(left: Holding | None, right: Holding) -> Holding:
    """Return the better of two holdings of the same node."""
    return right if left is None or right.rank() < left.rank() else left
