"""Random changes against the real scheduler, then quiet: nobody may wait in vain.

``RANDOM_CHANGES=5000`` (``make test-changes``) makes more of them, ``RANDOM_CHANGES_SEED=N`` the
same ones again.
"""

from __future__ import annotations

import os
import time

from tests.controlplane.changes import Changes
from tests.controlplane.machine import SEED, STEPS, RandomChanges, run

CHANGES = int(os.environ.get("RANDOM_CHANGES", "300"))


def test_no_pod_waits_ten_seconds_after_it_could_run(random_changes: Changes) -> None:
    """Memory, models, claims and nodes come and go; no node is over its ledger, none cold."""

    class Machine(RandomChanges):
        changes = random_changes

    began = time.monotonic()
    print(f"\nRANDOM_CHANGES_SEED={SEED}")  # noqa: T201 - what it takes to run it again
    run(Machine, SEED, max(1, CHANGES // STEPS))
    print(  # noqa: T201 - a figure
        f"{random_changes.made} changes in {time.monotonic() - began:.0f} s; "
        f"nobody waited who could run after {random_changes.slowest:.1f} s at most"
    )
