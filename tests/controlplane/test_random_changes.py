"""Random changes against the real scheduler, then quiet: nobody may wait in vain.

``RANDOM_CHANGES=5000`` (``make test-changes``) makes more of them, ``RANDOM_CHANGES_SEED=N`` the
same ones again.
"""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime

import pytest
from hypothesis.stateful import rule

from tests.controlplane.changes import NODES, Changes, short_grace
from tests.controlplane.machine import SEED, STEPS, RandomChanges, run
from tests.controlplane.processes import wait_for
from tests.controlplane.shipped import Object
from tests.controlplane.specs import ram, reader
from tests.truth.bindings import BrokenLawError

NOBODY = "no-such-scheduler"
CHANGES = int(os.environ.get("RANDOM_CHANGES", "300"))


@pytest.fixture(scope="module")
def extender_args(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return (short_grace(tmp_path_factory.mktemp("short-grace")),)


def test_no_pod_waits_ten_seconds_after_it_could_run(random_changes: Changes) -> None:
    """Memory, models, claims and nodes come and go; no node is over its memory, none cold."""

    class Machine(RandomChanges):
        changes = random_changes

        @rule()
        def rest(self) -> None:
            """Right after some change: the next one might have everybody tried again."""
            self.changes.rests.rest()

    began = time.monotonic()
    print(f"\nRANDOM_CHANGES_SEED={SEED}")  # noqa: T201 - what it takes to run it again
    run(Machine, SEED, max(1, CHANGES // STEPS))
    print(  # noqa: T201 - a figure
        f"{random_changes.made} changes in {time.monotonic() - began:.0f} s; "
        f"{random_changes.bindings.judged} Bindings and evictions for "
        f"{random_changes.bindings.evictions} pods judged; "
        f"{random_changes.rests.longest()}"
    )


def test_what_these_laws_forbid_is_seen_where_somebody_does_it(random_changes: Changes) -> None:
    """Somebody binds past the extender here, and a scheduler that is not there binds nothing."""
    changes = random_changes
    changes.begin()
    bind(changes, reader(changes.namespace), NODES[0])
    with pytest.raises(BrokenLawError, match=f"bound to {NODES[0]}, which had no model"):
        changes.look()
    bind(changes, ram(20), NODES[1])
    bind(changes, ram(20), NODES[1])
    with pytest.raises(BrokenLawError, match=f"{NODES[1]} had 32.00 GiB .* may be taken of it by"):
        changes.look()
    evict(changes, NODES[0])
    with pytest.raises(BrokenLawError, match=f"was let evict on {NODES[0]}, which had no model"):
        changes.look()
    changes.create({**ram(8), "schedulerName": NOBODY})
    with pytest.raises(AssertionError, match=r"could run and wait: .*random-\d+ on random-0"):
        changes.rests.rest()


def evict(changes: Changes, node: str) -> None:
    """Tell of an eviction for a new pod in place of a scheduler."""
    changes.create({**reader(changes.namespace), "schedulerName": NOBODY})
    path = f"/api/v1/namespaces/{changes.namespace}/pods/{changes.alive[-1]}"
    uid = json.loads(changes.api.request("GET", path).body)["metadata"]["uid"]
    victim = {"apiVersion": "v1", "kind": "Pod", "namespace": changes.namespace}
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "preempted"},
        "eventTime": datetime.now(UTC).isoformat(timespec="microseconds"),
        "type": "Normal",
        "reason": "Preempted",
        "action": "Preempting",
        "note": f"Preempted by pod {uid} on node {node}",
        "regarding": {**victim, "name": "gone", "uid": "gone"},
        "reportingController": NOBODY,
        "reportingInstance": NOBODY,
    }
    space = f"/apis/events.k8s.io/v1/namespaces/{changes.namespace}"
    changes.send("POST", f"{space}/events", event)


def bind(changes: Changes, spec: Object, node: str) -> None:
    """Create a pod and bind it in place of a scheduler."""
    changes.create({**spec, "schedulerName": NOBODY})
    name = changes.alive[-1]
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
    path = f"/api/v1/namespaces/{changes.namespace}/pods/{name}"
    changes.send("POST", f"{path}/binding", body)

    def is_told() -> bool:
        pod = json.loads(changes.api.request("GET", path).body)
        return any(c["type"] == "PodScheduled" for c in pod["status"].get("conditions", []))

    wait_for(is_told, 30, f"{name} to be bound")
