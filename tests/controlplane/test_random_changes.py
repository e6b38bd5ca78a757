"""Random changes against the real scheduler, then quiet: nobody may wait in vain.

``RANDOM_CHANGES=5000`` (``make test-changes``) makes more of them, ``RANDOM_CHANGES_SEED=N`` the
same ones again. ``SOAK_SECONDS=1200`` (``make soak``) goes on for so long, behind a proxy that
breaks the watches and with the extender killed now and then, and looks at its memory.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import ClassVar

import pytest
import yaml
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from extender.watch.client import connect
from extender.watch.resources import RESOURCES, Resource
from tests.controlplane.changes import NODE_GIB, NODES, Changes, ram, reader
from tests.controlplane.cluster import ControlPlane, Extender
from tests.controlplane.faults import kinds_of_fault as faults
from tests.controlplane.faults.proxy import Proxy
from tests.controlplane.faults.scene import kubeconfig_of, proxy_for
from tests.controlplane.shipped import SCHEDULER, load, scheduler_config

CHANGES = int(os.environ.get("RANDOM_CHANGES", "300"))
SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))
SEED = int(os.environ.get("RANDOM_CHANGES_SEED") or secrets.randbelow(2**32))
STEPS = 100
BATCH = 50
CLAIMS = 3
"""Claims that are made in one example: the volumes stay until the control plane is gone."""

NODE = st.sampled_from(NODES)


class RandomChanges(RuleBasedStateMachine):
    """One history, from a cluster without pods; the laws are checked every so many steps."""

    changes: ClassVar[Changes]

    def __init__(self) -> None:
        super().__init__()
        self.changes.begin()
        self.steps = 0
        self.claims = 0

    @rule(gib=st.sampled_from((2, 4, 8, 12)))
    def create_a_pod_in_memory(self, gib: int) -> None:
        self.changes.create(ram(gib))

    @rule()
    def create_a_pod_that_reads_the_nodes_cache(self) -> None:
        self.changes.create(reader(self.changes.namespace))

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
            self.changes.rest()

    def teardown(self) -> None:
        self.changes.rest()


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


@pytest.fixture
def make_changes(
    control_plane: ControlPlane, placing: Extender, namespace: str
) -> Callable[[], Changes]:
    _ = placing  # its default scheduler places the loaders
    resources = {"cpu": "32", "memory": f"{NODE_GIB}Gi", "pods": "500"}

    def make() -> Changes:
        control_plane.add_nodes(NODES, resources)
        loaders = load(control_plane, namespace, len(NODES))
        return Changes(connect(str(control_plane.kubeconfig())), namespace, loaders)

    return make


def test_no_pod_waits_ten_seconds_after_it_could_run(make_changes: Callable[[], Changes]) -> None:
    """Memory, models, claims and nodes come and go; no node is over its ledger, none cold."""

    class Machine(RandomChanges):
        changes = make_changes()

    changes, began = Machine.changes, time.monotonic()
    print(f"\nRANDOM_CHANGES_SEED={SEED}")  # noqa: T201 - what it takes to run it again
    run(Machine, SEED, max(1, CHANGES // STEPS))
    print(  # noqa: T201 - a figure
        f"{changes.made} changes in {time.monotonic() - began:.0f} s; "
        f"nobody waited who could run after {changes.slowest:.1f} s at most"
    )


if SOAK_SECONDS:
    FAULTS = (
        ("watch", faults.answers(410, "Expired")),
        ("watch", faults.answers(429, "TooManyRequests", 1)),
        ("watch", faults.answers(503)),
        ("list", faults.answers(500)),
        ("event", faults.error_event(410, "Expired")),
        ("event", faults.reset_mid_line),
        ("event", faults.truncated_json),
        ("event", faults.duplicate),
        ("event", faults.out_of_order),
    )

    @pytest.fixture
    def broken(control_plane: ControlPlane, tmp_path: Path) -> Iterator[tuple[Proxy, Extender]]:
        """An extender that sees the cluster through a proxy, and a scheduler that asks it."""
        with proxy_for(control_plane) as proxy:
            kubeconfig = tmp_path / "kubeconfig"
            document = kubeconfig_of(control_plane, server=proxy.url)
            kubeconfig.write_text(yaml.safe_dump(document), encoding="utf-8")
            extender = control_plane.start_extender(kubeconfig=kubeconfig)
            yield proxy, extender

    @pytest.mark.timeout(SOAK_SECONDS + 300)
    def test_soak(
        control_plane: ControlPlane,
        make_changes: Callable[[], Changes],
        broken: tuple[Proxy, Extender],
    ) -> None:
        """The same laws, with watches that break, an extender that dies, and flat memory."""
        proxy, extender = broken
        for process in control_plane.processes():
            if process.name == SCHEDULER:  # it asks the extender that sees everything
                control_plane.stop_process(process)
        control_plane.start_scheduler(scheduler_config(extender.url), SCHEDULER)
        random, counts = Random(SEED), {"faults": 0, "deaths": 0}

        class Machine(RandomChanges):
            changes = make_changes()

            @rule(index=st.integers(0, len(FAULTS) - 1), resource=st.sampled_from(RESOURCES))
            def break_a_watch(self, index: int, resource: Resource) -> None:
                verb, fault = FAULTS[index]
                proxy.forget()  # one at a time: with several in a row, the waits between tries grow
                counts["faults"] += proxy.meet(verb, fault, paths=[resource.path])
                if verb == "list":
                    proxy.drop()

        print(f"\nRANDOM_CHANGES_SEED={SEED}")  # noqa: T201
        changes = Machine.changes
        memory: list[int] = []
        end = time.monotonic() + SOAK_SECONDS
        while time.monotonic() < end:
            run(Machine, random.randrange(2**32), 1)
            if random.random() < 0.1:
                counts["deaths"] += 1
                extender.kill()
                extender.start()
                extender.wait_ready(lambda: extender.get("/readyz")[0] == 200, 60)
                memory.clear()
            memory.append(resident_bytes(extender.pid))
            print(  # noqa: T201 - progress of a long run
                f"{changes.made} changes, {counts['deaths']} deaths, {counts['faults']} faults "
                f"({proxy.met} met), at rest within {changes.slowest:.1f} s, "
                f"{memory[-1] / 2**20:.0f} MiB",
                flush=True,
            )
        assert proxy.met > 0
        assert memory[-1] < 1.25 * memory[len(memory) // 4], memory


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process and its children, from /proc."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    pages = 0
    for process in (str(pid), *children):
        pages += int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
