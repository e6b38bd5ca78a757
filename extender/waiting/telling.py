"""What kube-scheduler is told of a pod by a write to it, and what came of that."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol

import msgspec

from extender.cluster.state import ClusterState
from extender.placement.request import PodRequest
from extender.waiting.lost import Lost
from extender.waiting.pods import WaitingPod, WaitingPods


class Told(StrEnum):
    """What came of telling kube-scheduler of a pod."""

    WRITTEN = "written"
    OVERTAKEN = "bound, nominated otherwise, or another pod by its name, before that was written"
    GONE = "gone"
    REFUSED = "refused"
    UNANSWERED = "not answered"
    UNREACHED = "the apiserver is not there"
    AWAITED = "not answered yet"


class Word(msgspec.Struct, frozen=True):
    """What came of telling of one pod, and the error in words where it was not told.

    ``cause`` is what the error has in common with those of other pods: few texts, without names.
    """

    told: Told
    error: str = ""
    cause: str = ""


class Woken(msgspec.Struct, frozen=True, kw_only=True):
    """One pod of a round: where it was nominated to (empty: touched), and what came of it."""

    pod: WaitingPod
    node: str
    word: Word

    @property
    def request(self) -> PodRequest:
        """Return the pod's question."""
        return self.pod.request


class TakenBack(msgspec.Struct, frozen=True, kw_only=True):
    """A nomination that led nowhere, and what came of taking it back."""

    lost: Lost
    word: Word

    @property
    def request(self) -> PodRequest:
        """Return the pod's question."""
        return self.lost.request


class Telling(Protocol):
    """Writes to pods so that kube-scheduler looks at them again."""

    def nominate(self, request: PodRequest, node: str) -> Word:
        """Write the node to a pod that is not bound and not nominated."""

    def touch(self, request: PodRequest) -> Word:
        """Mark a pod."""

    def take_back(self, request: PodRequest, node: str) -> Word:
        """Clear the nomination of a pod to a node, unless it has gone on since."""

    def answers(self) -> Iterable[tuple[str, Word]]:
        """Return by the pod's UID, once, what came of writes that were answered ``AWAITED``."""


def note(word: Word, uid: str, pods: WaitingPods, state: ClusterState) -> None:
    """Note what came of telling of a pod that was noted as touched before."""
    if word.told is Told.GONE:
        pods.drop(uid)
    elif word.told is not Told.WRITTEN:
        pods.missed(uid, state, reached=word.told is not Told.UNREACHED)
