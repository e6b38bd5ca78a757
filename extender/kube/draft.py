"""A complete list of one kind on its way to where its objects go, page by page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from extender.kube.objects import KubeObject


class Draft(Protocol):
    """For one thread. What was added counts for nothing before ``replace``."""

    def add(self, objects: Sequence[KubeObject]) -> None:
        """Take some of the objects; the sequence itself is not for keeping."""

    def phantoms(self, besides: Iterable[KubeObject]) -> list[str]:
        """Name what is known of the kind, and was neither added nor is ``besides``."""

    def replace(self) -> None:
        """Make what was added all there is of the kind, in one step."""
