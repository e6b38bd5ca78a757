"""What must be true at every step, by what the models know, not by what the core believes.

``law`` names them, and the module here that sees each: ``knowledge`` after every step, ``answers``
(filter and prioritize), ``evictions`` (preempt) and ``binding`` where a verb answers,
``nominations`` and ``waiting`` where somebody is told of something, and at rest.
"""

from __future__ import annotations

from collections.abc import Callable

from simulation.apiserver import Apiserver
from simulation.laws.answers import Answers
from simulation.laws.binding import Binding
from simulation.laws.clocks import Clocks
from simulation.laws.evictions import Evictions
from simulation.laws.knowledge import Knowledge
from simulation.laws.nominations import Nominations
from simulation.laws.waiting import Waiting
from simulation.scenario import Ask, Scenario, Size
from simulation.truth import Truth


class Laws:
    """The laws of one world. Each broken one raises BrokenLawError."""

    def __init__(
        self,
        scenario: Scenario,
        api: Apiserver,
        *,
        asks: dict[str, Ask],
        in_force: Callable[[str], Size | None],
    ) -> None:
        self.asks = asks
        self.clocks = Clocks(scenario.policy.stale_grace)
        self.truth = Truth(api, asks, reporting=bool(scenario.reported))
        self.nominations = Nominations(api, asks)
        self.waiting = Waiting(api, asks)
        self.evictions = Evictions(api, asks, clocks=self.clocks, nominations=self.nominations)
        self.answers = Answers(
            scenario,
            asks=asks,
            evictions=self.evictions,
            nominations=self.nominations,
            waiting=self.waiting,
        )
        self.binding = Binding(scenario, api, asks=asks, truth=self.truth, clocks=self.clocks)
        self.knowledge = Knowledge(
            scenario,
            api,
            asks=asks,
            in_force=in_force,
            truth=self.truth,
            evictions=self.evictions,
            clocks=self.clocks,
        )
