"""Whole objects beside the facts that the state reduces them to: for commands that look once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from extender.cluster.state import ClusterState
from extender.kube.draft import Draft
from extender.kube.objects import KubeObject, ObjectMeta

T = TypeVar("T", bound=KubeObject)


class Kept:
    """A sink that fills a state and keeps what passes, as it came."""

    def __init__(self, state: ClusterState) -> None:
        self._state = state
        self._tables: dict[type[KubeObject], dict[tuple[str, str], KubeObject]] = {}

    def all(self, kind: type[T]) -> list[T]:
        """Return the objects of a kind, sorted by namespace and name."""
        table = self._tables.get(kind, {})
        return [obj for _, obj in sorted(table.items()) if isinstance(obj, kind)]

    def listing(self, kind: type[KubeObject]) -> KeptDraft:
        """Begin a complete list."""

        def keep(objects: Sequence[KubeObject]) -> None:
            self._tables[kind] = {_key(obj.metadata): obj for obj in objects}

        return KeptDraft(self._state.listing(kind), keep)

    def upsert(self, obj: KubeObject) -> None:
        """Apply one added or modified object."""
        self._tables.setdefault(type(obj), {})[_key(obj.metadata)] = obj
        self._state.upsert(obj)

    def delete(self, obj: KubeObject) -> None:
        """Apply one deleted object."""
        self._tables.get(type(obj), {}).pop(_key(obj.metadata), None)
        self._state.delete(obj)

    def unreadable(self, kind: type[KubeObject], metadata: ObjectMeta, error: str) -> None:
        """Forget an object that cannot be read."""
        self._tables.get(kind, {}).pop(_key(metadata), None)
        self._state.unreadable(kind, metadata, error)

    def knows(self, obj: KubeObject) -> bool:
        """Tell whether anything is known of an object."""
        return self._state.knows(obj)

    def differs(self, obj: KubeObject) -> bool:
        """Tell whether what is known of an object is not what it says."""
        return self._state.differs(obj)


class KeptDraft:
    """A draft whose objects are kept, as they came, for ``listed`` at the end."""

    def __init__(self, draft: Draft, listed: Callable[[Sequence[KubeObject]], None]) -> None:
        self._draft = draft
        self._listed = listed
        self._objects: list[KubeObject] = []
        self.phantoms = draft.phantoms

    def add(self, objects: Sequence[KubeObject]) -> None:
        """Take some of the objects."""
        self._objects.extend(objects)
        self._draft.add(objects)

    def replace(self) -> None:
        """Make these all there is of the kind."""
        self._listed(self._objects)
        self._draft.replace()


def _key(metadata: ObjectMeta) -> tuple[str, str]:
    return metadata.namespace, metadata.name
