"""Random changes for long, with watches that break, an extender that dies, and flat memory.

``SOAK_SECONDS=1200`` (``make soak``) runs it for so long, ``RANDOM_CHANGES_SEED=N`` with the same
changes again. An extender that cannot see cannot act: a pod may wait from when everything is known
by the bounds of docs/faults.md.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st
from hypothesis.stateful import rule

from extender.watch.resources import (
    CLAIMS,
    DAEMON_SETS,
    JOBS,
    NODES,
    PODS,
    VOLUMES,
    Resource,
)
from tests.controlplane.changes import Changes, short_grace
from tests.controlplane.cluster import ControlPlane, Extender
from tests.controlplane.faults import kinds_of_fault as faults
from tests.controlplane.faults.proxy import Proxy
from tests.controlplane.faults.scene import kubeconfig_of, proxy_for
from tests.controlplane.faults.sight import HALF_OPEN, Sight
from tests.controlplane.machine import SEED, RandomChanges, run
from tests.controlplane.shipped import SCHEDULER, scheduler_config

SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))
APART_SECONDS = 2.0
"""Between two faults."""

HALF_OPEN_APART_SECONDS = 300.0
READY_SECONDS = 60.0
GROWTH_MIB = 1.0
"""How much the memory of one process may grow in a thousand changes, from the middle of its life to
the end. The core alone takes 0.6 to 0.7 at that age, until its caches are full, and nothing then
(docs/faults.md, "What is kept"; ``tests/growth``)."""

LIVED = 8_000
"""Changes; memory of a process that has seen fewer says nothing yet. It takes a machine with little
other work: the last process lives for half of the time at least."""

CUT = {"event": faults.reset_mid_line}
GOES_ON: tuple[dict[str, Any], ...] = (
    CUT,
    {**CUT, "watch": faults.answers(429, "TooManyRequests", 1)},
    {**CUT, "watch": faults.answers(503)},
    {"event": faults.truncated_json},
    {"event": faults.error_event(500, "InternalError")},
)
"""What one kind meets, by verb; afterwards its watch goes on from where it was."""

RELISTS: tuple[dict[str, Any], ...] = (
    {**CUT, "watch": faults.answers(410, "Expired")},
    {**CUT, "watch": faults.answers(410, "Expired"), "list": faults.answers(500)},
    {"event": faults.error_event(410, "Expired")},
    {"event": faults.out_of_order},
)
"""What is followed by a list of the kind."""

KIND = st.sampled_from((NODES, NODES, PODS, PODS, DAEMON_SETS, JOBS, CLAIMS, VOLUMES))
"""The kinds that change here."""

pytestmark = pytest.mark.skipif(not SOAK_SECONDS, reason="make soak: it takes twenty minutes")


class Soak:
    """An extender behind a proxy, what is done to the two, and what it comes to."""

    def __init__(self, proxy: Proxy, extender: Extender) -> None:
        self.proxy = proxy
        self.extender = extender
        self.sight = Sight()
        self.counts: Counter[str] = Counter()
        self.memory: list[tuple[int, float]] = []
        """Changes so far and resident MiB of the present process, at the end of each history."""
        self.growth: float | None = None
        """MiB in a thousand changes; None while it cannot be told."""
        self._broke_at = self._half_opened_at = time.monotonic()

    def may_break(self) -> bool:
        """Tell whether the last fault is long enough ago, and count one more if so."""
        now = time.monotonic()
        if now - self._broke_at < APART_SECONDS:
            return False
        self._broke_at = now
        self.proxy.forget()
        return True

    def break_a_kind(self, met: dict[str, Any], path: str, *, relists: bool) -> None:
        """Let a kind meet a fault at its next event."""
        for verb, fault in met.items():
            noted = self.sight.noting(fault, path, relists=relists)
            self.proxy.meet(verb, noted, paths=[path])
        self.counts["broken watches"] += 1

    def drop(self) -> None:
        """Cut every connection."""
        self.sight.all_broke(time.time())
        self.proxy.drop()
        self.counts["cuts of everything"] += 1

    def half_open(self, path: str) -> None:
        """Let a kind's watch fall silent at its next event, if none was for long."""
        now = time.monotonic()
        if now - self._half_opened_at > HALF_OPEN_APART_SECONDS:
            self._half_opened_at = now
            fault = self.sight.noting(faults.half_open, path, relists=True, lasts=HALF_OPEN)
            self.proxy.meet("event", fault, paths=[path])
            self.counts["half-open sockets"] += 1

    def refuse_connections(self, seconds: float) -> None:
        """Let nothing be there to connect to for a while."""
        began = time.time()
        self.proxy.down()
        time.sleep(seconds)
        self.proxy.up()
        self.sight.out_of_reach(began, time.time())
        self.counts["outages"] += 1

    def told(self) -> str:
        """Return what the extender says of its sight and of the nodes."""
        lines = self.extender.get("/metrics")[1].splitlines()
        sight = [line for line in lines if line.startswith("model_cache_extender_watch_")]
        return "\n".join([*sight, self.extender.get("/api/v1/nodes")[1]])

    def remember(self, changes: int) -> str:
        """Note the memory of the present process; return it at its start, middle and end."""
        self.memory.append((changes, resident_bytes(self.extender.pids()) / 2**20))
        first, middle, last = self.memory[0], self.memory[len(self.memory) // 2], self.memory[-1]
        grew = (last[1] - middle[1]) / max(1, last[0] - middle[0]) * 1000
        self.growth = grew if self.seen() >= LIVED else None
        return (
            f"{first[1]:.1f}, {middle[1]:.1f}, {last[1]:.1f} MiB at start, middle and end, "
            f"{grew:+.2f} MiB in 1,000 changes"
        )

    def seen(self) -> int:
        """Return how many changes the present process has seen since its memory was noted first."""
        return self.memory[-1][0] - self.memory[0][0] if self.memory else 0

    def die(self) -> None:
        """Kill the extender and start another in its place."""
        self.extender.kill()
        self.extender.start()
        self.extender.wait_ready(lambda: self.extender.get("/readyz")[0] == 200, READY_SECONDS)
        self.sight.renewed(time.time())
        self.memory.clear()
        self.counts["deaths"] += 1


@pytest.fixture
def soak(control_plane: ControlPlane, placing: Extender, tmp_path: Path) -> Iterator[Soak]:
    """An extender that sees the cluster through a proxy, and the only scheduler, which asks it."""
    for process in reversed(control_plane.processes()):
        if process.name == SCHEDULER or process is placing:  # they see everything
            control_plane.stop_process(process)
    with proxy_for(control_plane) as proxy:
        kubeconfig = tmp_path / "kubeconfig"
        document = kubeconfig_of(control_plane, server=proxy.url)
        kubeconfig.write_text(yaml.safe_dump(document), encoding="utf-8")
        extender = control_plane.start_extender(short_grace(tmp_path), kubeconfig=kubeconfig)
        control_plane.start_scheduler(scheduler_config(extender.url), SCHEDULER)
        yield Soak(proxy, extender)


@pytest.mark.timeout(SOAK_SECONDS + 600)
def test_soak(random_changes: Changes, soak: Soak) -> None:
    """No node over its ledger, no cold pod, nobody waiting in vain, and memory that stays flat."""
    random, began = Random(SEED), time.monotonic()
    random_changes.world.known = soak.sight.known_by

    class Machine(RandomChanges):
        changes = random_changes

        @rule(fault=st.sampled_from(GOES_ON), resource=KIND)
        def break_a_watch(self, fault: dict[str, Any], resource: Resource) -> None:
            if soak.may_break():
                soak.break_a_kind(fault, resource.path, relists=False)

        @rule(fault=st.sampled_from(RELISTS), resource=KIND)
        def end_a_watch(self, fault: dict[str, Any], resource: Resource) -> None:
            if soak.may_break():
                soak.break_a_kind(fault, resource.path, relists=True)

        @rule()
        def cut_everything(self) -> None:
            if soak.may_break():
                soak.drop()

        @rule(resource=KIND)
        def let_a_watch_fall_silent(self, resource: Resource) -> None:
            if soak.may_break():
                soak.half_open(resource.path)

        @rule(seconds=st.floats(1.0, 4.0))
        def refuse_connections(self, seconds: float) -> None:
            if soak.may_break():
                soak.refuse_connections(seconds)

        @rule(dice=st.integers(0, 9))
        def die(self, dice: int) -> None:
            """In the first half: the second shows the memory of one process."""
            if dice == 9 and time.monotonic() - began < SOAK_SECONDS / 2:
                soak.die()

    print(f"\nRANDOM_CHANGES_SEED={SEED}")  # noqa: T201
    while time.monotonic() - began < SOAK_SECONDS:
        try:
            run(Machine, random.randrange(2**32), 1)
        except BaseException:
            print(soak.told())  # noqa: T201 - what the extender knew, while it is still there
            raise
        memory = soak.remember(random_changes.made)
        print(  # noqa: T201 - progress of a long run
            f"{time.monotonic() - began:.0f} s: {random_changes.made} changes, "
            f"{random_changes.bindings.judged} Bindings and evictions for "
            f"{random_changes.bindings.evictions} pods judged, "
            f"{dict(soak.counts)}, {soak.proxy.met} faults met; "
            f"{random_changes.rests.longest()}; "
            f"{memory}",
            flush=True,
        )
    assert soak.proxy.met > 0
    if soak.growth is None:
        print(  # noqa: T201 - what this run does not show
            f"memory was NOT judged: the last process has seen {soak.seen()} changes, and it takes "
            f"{LIVED}; run it where there is less other work, or for longer (SOAK_SECONDS)"
        )
    assert soak.growth is None or soak.growth < GROWTH_MIB, soak.memory


def resident_bytes(pids: Iterable[int]) -> int:
    """Return the resident memory of processes, from /proc."""
    pages = 0
    for pid in pids:
        pages += int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
