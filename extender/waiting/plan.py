"""A plan of waking: who could go where by one view of the cluster, and in which order they go."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

import msgspec

from extender.cluster.view import View
from extender.placement.tables import Kind
from extender.waiting.places import Choice, Places
from extender.waiting.pods import WaitingPod

IN_VAIN = 10
"""Once so many of a kind, or so many for one node, were woken in vain, all others come first."""

Entry = tuple[WaitingPod, Choice | None]
"""A pod, and where it could go; None where that is not known."""


class Plan:
    """Who is due by one view, in order, and where they could go.

    ``refusals`` counts those of before it; it was ``made`` from a time of the clock that nobody
    sets on, ``made_by`` another one, and is ``kept_for`` so many seconds. The ``repeats`` were
    woken before, in vain: they come after those who are ``ready``. For who is woken ``again`` no
    place is known.
    """

    def __init__(self, view: View, stale: tuple[str, ...], refusals: int, *, made: float) -> None:
        self.view = view
        self.stale = stale
        self.refusals = refusals
        self.made = self.made_by = made
        self.kept_for = 0.0
        self.groups: dict[KindKey, Places] = {}
        self.found: list[Found] = []
        self.in_vain: Counter[KindKey | str] = Counter()
        self.ready: deque[Entry] = deque()
        self.repeats: deque[Entry] = deque()
        self.again: deque[Entry] = deque()

    def done(self, steady: float, kept_for: float, served: Mapping[str, int]) -> None:
        """Keep it for so long, and for as long as it took: then a half of the time is for telling.

        Sort those that were found by how much of the same came to nothing, then as they are woken:
        among those of one priority the namespaces take turns, and that one comes first of which
        nobody was woken for longest (``served``: in which order that was). A tenant may have
        thousands that can always run as far as filter goes.

        Of those who come to nothing in the same way it is enough to have tried some before others
        are tried. A pod for which a node opened since it was woken is the first that is woken
        again, then whoever was woken the fewest times.
        """
        self.made_by, self.kept_for = steady, max(kept_for, steady - self.made)

        def rank(one: Found) -> tuple[int, bool, int]:
            tried = sum(self.in_vain[each] >= IN_VAIN for each in (one.key, one.choice.first))
            missed, before, *_ = one.pod.order
            return tried, missed, before

        ranked = sorted((rank(one), one.pod.order, at) for at, one in enumerate(self.found))
        so_far: Counter[tuple[object, str]] = Counter()
        turns = []
        for ranks, order, at in ranked:
            namespace = self.found[at].pod.request.namespace
            so_far[ranks, namespace] += 1
            turns.append((ranks, so_far[ranks, namespace], served.get(namespace, 0), order, at))
        repeats: list[Entry] = []
        for *_, at in sorted(turns):
            one = self.found[at]
            queue = repeats if one.pod.touches and not one.again else self.ready
            queue.append((one.pod, one.choice))
        self.again = deque(sorted(self.again, key=lambda it: it[0].order))
        self.repeats.extend(sorted(repeats, key=lambda it: (not it[0].opened, it[0].touches)))


class KindKey(msgspec.Struct, frozen=True, order=False):
    """Pods with the same key get the same answers from a node.

    ``own`` is the UID of a pod that something is kept for on some node, a reservation, a hold or a
    nomination: that memory is free for it alone. A pod whose patience ends is of another kind: it
    leaves the group that has no place, and is judged on every node at once; the younger ones stay.
    """

    own: str
    kind: Kind


class Candidate(msgspec.Struct, frozen=True):
    """A pod that may be woken: the ``node`` it was woken for before, or ``again`` in any case."""

    pod: WaitingPod
    node: str
    again: bool


class Found(msgspec.Struct, frozen=True):
    """A pod of a kind, and where it could go; whether it is its time ``again``."""

    key: KindKey
    pod: WaitingPod
    choice: Choice
    again: bool
