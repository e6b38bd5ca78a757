"""Shared volumes: claims with their volumes and classes, and the Jobs that write into them.

Not safe to use from threads: the cluster state guards it.
"""

from __future__ import annotations

from collections.abc import Mapping

from cachetools import LRUCache

from extender.cluster.claims import JobFacts, JobState
from extender.cluster.view import Key
from extender.kube.objects import PersistentVolume, PersistentVolumeClaim, StorageClass

_MAX_COMPLETED_WRITES = 1_000
"""Of one namespace: whoever may create Jobs makes nobody else's forgotten."""

_MAX_NAMESPACES = 10_000
"""Beyond that one is forgotten for each that comes: of some it is never told that they are gone."""

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
        self._sets: dict[str, frozenset[Write]] = {}
        self._shown: Mapping[str, frozenset[Write]] | None = None

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
            namespace = key[0]
            completed = self._completed.get(namespace) or LRUCache[Write, bool](1)
            for write in [write for write in completed if write[:2] == key]:
                del completed[write]
            self._renew(namespace)

    def forget_namespace(self, namespace: str) -> None:
        """Forget what was written in a namespace, also into claims that were never told of."""
        self._completed.pop(namespace, None)
        self._renew(namespace)

    def namespaces(self) -> set[str]:
        """Return the namespaces in which something was written."""
        return set(self._completed)

    def completed(self) -> Mapping[str, frozenset[Write]]:
        """Return what was once written whole, by namespace; it does not change any more."""
        if self._shown is None:
            self._shown = dict(self._sets)
        return self._shown

    def _renew(self, namespace: str) -> None:
        """Show what is known of a namespace now."""
        self._shown = None
        if completed := self._completed.get(namespace):
            self._sets[namespace] = frozenset(completed)
        else:
            self._completed.pop(namespace, None)
            self._sets.pop(namespace, None)

    def put_job(self, uid: str, job: JobFacts | None) -> None:
        """Keep a Job that was added or modified, if it writes a model into a claim."""
        if job is None:
            self.jobs.pop(uid, None)
            return
        self.jobs[uid] = job
        if job.state is JobState.COMPLETE and job.writes:
            self._complete(job)

    def _complete(self, job: JobFacts) -> None:
        namespace = job.namespace
        if namespace not in self._completed and len(self._completed) >= _MAX_NAMESPACES:
            self.forget_namespace(next(iter(self._completed)))
        completed = self._completed.setdefault(namespace, LRUCache(_MAX_COMPLETED_WRITES))
        writes = [(namespace, write.claim, write.model.path) for write in job.writes]
        new = any(write not in completed for write in writes)
        completed.update(dict.fromkeys(writes, True))
        if new:
            self._renew(namespace)
