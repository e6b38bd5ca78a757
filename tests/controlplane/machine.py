"""The state machine of random changes: its rules, its laws, and how many steps by which seed."""

from __future__ import annotations

from typing import ClassVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.controlplane.changes import NODES, PRIORITIES, Changes
from tests.controlplane.specs import needing, ram, reader
from tests.seeds import seed_of

SEED = seed_of("RANDOM_CHANGES_SEED")
STEPS = 100
BATCH = 50
CLAIMS = 3
"""Claims that are made in one example."""

NODE = st.sampled_from(NODES)
COUNT = st.integers(1, 5)
"""So many pods come at once: the memory of the nodes has to be worth a fight."""
PRIORITY = st.sampled_from(("", "", *PRIORITIES))


class RandomChanges(RuleBasedStateMachine):
    """One history, from a cluster without pods; the laws are checked every so many steps."""

    changes: ClassVar[Changes]

    def __init__(self) -> None:
        super().__init__()
        self.changes.begin()
        self.steps = 0
        self.claims = 0

    @rule(gib=st.sampled_from((2, 4, 8, 12)), count=COUNT, priority=PRIORITY)
    def create_pods_in_memory(self, gib: int, count: int, priority: str) -> None:
        for _ in range(count):
            self.changes.create(ram(gib), priority)

    @rule(count=COUNT, priority=PRIORITY)
    def create_pods_that_read_the_nodes_cache(self, count: int, priority: str) -> None:
        for _ in range(count):
            self.changes.create(reader(self.changes.namespace), priority)

    @rule(
        cpu=st.sampled_from((4, 6, 10)),
        gib=st.sampled_from((0, 4, 12)),
        count=COUNT,
        priority=PRIORITY,
    )
    def create_pods_that_fill_a_node(self, cpu: int, gib: int, count: int, priority: str) -> None:
        """By kube-scheduler's own count, so that it evicts the lower ones for the higher ones."""
        for _ in range(count):
            spec = ram(gib) if gib else reader(self.changes.namespace)
            self.changes.create(needing(cpu, spec), priority)

    @rule(index=st.integers(0, 1000))
    def create_a_pod_that_reads_a_claim(self, index: int) -> None:
        if self.changes.claims:
            claim = self.changes.claims[index % len(self.changes.claims)]
            self.changes.create(reader(self.changes.namespace, claim))

    @rule(index=st.integers(0, 1000))
    def delete_a_pod(self, index: int) -> None:
        self.changes.delete(index)

    @rule(node=NODE, state=st.sampled_from(("ready", "ready", "loading", "failed")))
    def let_a_loader_be(self, node: str, state: str) -> None:
        self.changes.load(node, state)

    @rule(node=NODE, closed=st.booleans())
    def cordon(self, node: str, closed: bool) -> None:
        self.changes.close(node, closed=closed)

    @rule(node=NODE, gib=st.sampled_from((24, 32, 48)))
    def give_a_node_memory(self, node: str, gib: int) -> None:
        self.changes.resize(node, gib)

    @rule(node=NODE)
    def take_a_node_away(self, node: str) -> None:
        self.changes.take_away(node)

    @rule(node=NODE)
    def bring_a_node_back(self, node: str) -> None:
        self.changes.bring_back(node)

    @rule(there=st.booleans())
    def let_the_loader_be_there(self, there: bool) -> None:
        if there:
            self.changes.put_loader()
        else:
            self.changes.take_loader()

    @rule()
    def create_a_claim_and_its_job(self) -> None:
        if self.claims < CLAIMS:
            self.claims += 1
            self.changes.add_claim()

    @rule()
    def complete_a_job(self) -> None:
        self.changes.fill()

    @invariant()
    def nobody_waits_who_could_run(self) -> None:
        self.steps += 1
        if self.steps % BATCH == 0:
            self.changes.rests.rest()

    def teardown(self) -> None:
        self.changes.rests.rest()


def run(machine: type[RandomChanges], number: int, examples: int) -> None:
    """Run examples by a seed; a failing one is run once more, to show its steps.

    The first that hypothesis tries is the simplest one, in which nothing happens: it is on top.
    """
    how = settings(
        max_examples=1 + examples,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(number)(machine), settings=how)
