"""A complete list on its way into the state: each page is reduced as it comes.

A pod as it is listed takes ten times what is kept of it, so 100,000 of them are never held at once:
of those that are as before nothing is, of the others what will be applied. Nothing of it is known
before the list is complete; readers never see half of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet

import msgspec

from extender.cluster.claims import JobFacts
from extender.cluster.inventory import Loader
from extender.cluster.leases import lease_key
from extender.cluster.loaders import LoaderNews
from extender.cluster.starts import Started
from extender.cluster.view import PodFacts
from extender.kube.objects import (
    DaemonSet,
    Job,
    KubeObject,
    Lease,
    ObjectMeta,
    PersistentVolumeClaim,
    Pod,
)


class PodNews(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a pod changes. ``problem`` is what is wrong with it, empty where nothing is.

    ``start`` is the start that it tells of, which may not be its first where it was ``restarted``.
    ``loader`` is what it is as a loader's, or where it speaks as one.
    """

    facts: PodFacts
    problem: str = ""
    start: Started | None = None
    restarted: bool = False
    loader: LoaderNews | None = None


class DaemonSetNews(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a DaemonSet changes. ``loader`` is None where it is none."""

    uid: str
    metadata: ObjectMeta
    loader: Loader | None


class JobNews(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a Job changes. ``job`` is None where it writes no model into a claim."""

    uid: str
    metadata: ObjectMeta
    job: JobFacts | None


News = PodNews | DaemonSetNews | JobNews | KubeObject


class StateDraft:
    """A ``Draft`` of the state, of one kind.

    ``reduce`` returns what an object changes, None where it is known as it is. ``known`` returns
    the identities of all that is known of the kind, ``name`` names some of them. ``put`` applies
    what has changed, and forgets what is gone. ``gone_if_absent`` are identities besides those that
    are known which are gone where the list does not have them.
    """

    def __init__(
        self,
        *,
        reduce: Callable[[KubeObject], News | None],
        known: Callable[[], set[str]],
        name: Callable[[AbstractSet[str]], list[str]],
        put: Callable[[Sequence[News], AbstractSet[str]], None],
        gone_if_absent: AbstractSet[str] = frozenset(),
    ) -> None:
        self._reduce = reduce
        self._known = known
        self._name = name
        self._put = put
        self._gone_if_absent = gone_if_absent
        self._present: set[str] = set()
        self._news: list[News] = []

    def add(self, objects: Sequence[KubeObject]) -> None:
        """Take some of the objects."""
        for obj in objects:
            self._present.add(identity(obj))
            news = self._reduce(obj)
            if news is not None:
                self._news.append(news)

    def phantoms(self, besides: Iterable[KubeObject]) -> list[str]:
        """Name what is known of the kind and neither listed nor ``besides``."""
        return self._name(self._known() - self._present - set(map(identity, besides)))

    def replace(self) -> None:
        """Make what was added all there is of the kind, in one step."""
        self._put(self._news, (self._known() | self._gone_if_absent) - self._present)


def identity(obj: KubeObject) -> str:
    """Return what an object is kept under: UIDs for what is recreated under the same name."""
    metadata = obj.metadata
    if isinstance(obj, Pod | DaemonSet | Job):
        return metadata.uid or f"{metadata.namespace}/{metadata.name}"
    if isinstance(obj, Lease):
        return "/".join(lease_key(metadata))
    if isinstance(obj, PersistentVolumeClaim):
        return f"{metadata.namespace}/{metadata.name}"
    return metadata.name
