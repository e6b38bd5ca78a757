"""Shared volumes: claims with their volumes and classes, and the Jobs that write into them.

Not safe to use from threads: the cluster state guards it.
"""

from __future__ import annotations

from cachetools import LRUCache

from extender.cluster.claims import JobFacts, JobState
from extender.cluster.view import Key
from extender.kube.objects import PersistentVolume, PersistentVolumeClaim, StorageClass

_MAX_COMPLETED_WRITES = 1_000
"""Of one namespace: whoever may create Jobs makes nobody else's forgotten."""

Write = tuple[str, str, str]
"""Namespace, claim and path."""


class Storage:
    """Claims by namespace and name, Jobs by UID, volumes and classes by name.

    What was once written whole is known, too, of each namespace so much.
    """

    def __init__(self) -> None:
        self.claims: dict[Key, PersistentVolumeClaim] = {}
        self.volumes: dict[str, PersistentVolume] = {}
        self.classes: dict[str, StorageClass] = {}
        self.jobs: dict[str, JobFacts] = {}
        self._completed: dict[str, LRUCache[Write, bool]] = {}

    def put_claim(self, claim: PersistentVolumeClaim) -> None:
        """Keep a claim that was added or modified."""
        key = claim.metadata.namespace, claim.metadata.name
        before = self.claims.get(key)
        if before is not None and before.metadata.uid != claim.metadata.uid:
            self.forget_claim(key)
        self.claims[key] = claim

    def forget_claim(self, key: Key) -> None:
        """Forget a claim and what was written there: one made anew under its name is empty."""
        if self.claims.pop(key, None) is not None:
            completed = self._completed.pop(key[0], None) or LRUCache(_MAX_COMPLETED_WRITES)
            for write in [write for write in completed if write[:2] == key]:
                del completed[write]
            if completed:
                self._completed[key[0]] = completed

    def completed(self) -> frozenset[Write]:
        """Return what was once written whole."""
        return frozenset(write for writes in self._completed.values() for write in writes)

    def put_job(self, uid: str, job: JobFacts | None) -> None:
        """Keep a Job that was added or modified, if it writes a model into a claim."""
        if job is None:
            self.jobs.pop(uid, None)
            return
        self.jobs[uid] = job
        if job.state is JobState.COMPLETE and job.writes:
            completed = self._completed.setdefault(job.namespace, LRUCache(_MAX_COMPLETED_WRITES))
            for write in job.writes:
                completed[job.namespace, write.claim, write.model.path] = True
