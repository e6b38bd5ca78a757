"""The laws of filter and prioritize: an answer fits its question, says why, and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from extender.kube.objects import Pod
from extender.placement.policy import OnStale
from extender.wire import FilterResult, Victims
from simulation.law import Law, broken
from simulation.laws.evictions import Evictions
from simulation.laws.nominations import Nominations
from simulation.laws.waiting import Waiting
from simulation.scenario import Ask, Scenario

if TYPE_CHECKING:
    from simulation.extender import Extender


class Answers:
    """What is said of nodes. The laws of those who wait and of nominations hear of it."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        asks: Mapping[str, Ask],
        evictions: Evictions,
        nominations: Nominations,
        waiting: Waiting,
    ) -> None:
        self._neutral = scenario.policy.on_stale is OnStale.NEUTRAL
        self._asks = asks
        self._evictions = evictions
        self._nominations = nominations
        self._waiting = waiting

    def filtered(
        self,
        extender: Extender,
        pod: Pod,
        names: Sequence[str],
        result: FilterResult,
        *,
        changed: bool,
    ) -> None:
        """Look at an answer of filter."""
        if changed:
            broken(Law.FILTER_CHANGES_NOTHING, pod.metadata.name)
        if not set(names) >= set(result.names):
            broken(Law.FILTER_ANSWERS, f"{result.names} of {names}")
        if not result.names and set(result.unresolvable) != set(names) and not result.error:
            broken(Law.FILTER_SAYS_WHY, f"{result.unresolvable} of {names}")
        self._check_old_knowledge(extender, pod, names, result)
        self._nominations.meant(extender, pod, result.names)
        self._evictions.filtered(extender, pod, names, result)
        self._waiting.filtered(pod, result)

    def _check_old_knowledge(
        self, extender: Extender, pod: Pod, names: Sequence[str], result: FilterResult
    ) -> None:
        """See that an answer by old knowledge is what the policy makes of it.

        Nothing passes that needs certainty, or, where that is neutral, nothing is held against a
        node but memory that it has not got even by what was told.
        """
        if not extender.stale() or result.error:
            return
        if not self._neutral:
            if result.names and self._asks[pod.metadata.uid].needs_certainty:
                broken(Law.OLD_KNOWLEDGE, f"{pod.metadata.name}: {result.names}")
            return
        view, nobody = extender.state.view(), Victims(uids=(), pdb_violations=0)
        for name in sorted({*names} - {*result.names}):
            node = view.nodes.get(name)
            if node is not None and self._evictions.has_room(extender, node, pod, nobody):
                broken(Law.OLD_KNOWLEDGE, f"{pod.metadata.name} is refused on {name}")

    def prioritized(self, names: Sequence[str], scores: Sequence[tuple[str, int]]) -> None:
        """Look at an answer of prioritize."""
        if sorted(names) != sorted(name for name, _ in scores):
            broken(Law.ALL_SCORED, f"{scores} of {names}")
        if any(not 0 <= score <= 10 for _, score in scores):
            broken(Law.SCORES, str(scores))
