"""The example's Job and the exit codes of ``loader fill``, by the real Job controller."""

from __future__ import annotations

from typing import Any

import pytest

from tests.controlplane.cluster import ControlPlane
from tests.controlplane.shipped import ended, example, played_by_hand, pods, volume

READERS, WRONG_USE, FAILED = 3, 2, 1


def end(control_plane: ControlPlane, namespace: str, job: Any, code: int) -> None:
    """Let the Job's pod that has not ended yet end with this exit code."""

    def running() -> list[Any]:
        found = pods(control_plane, namespace, job["metadata"]["name"])
        return [pod for pod in found if pod["status"].get("phase") == "Pending"]

    control_plane.wait_for(running, 60, "the Job's next pod")
    (pod,) = running()
    control_plane.set_pod_status(namespace, pod["metadata"]["name"], ended(pod, code))


@pytest.mark.parametrize(
    ("codes", "reason"),
    [
        ((READERS, READERS, FAILED, FAILED), "BackoffLimitExceeded"),
        ((WRONG_USE,), "PodFailurePolicy"),
    ],
    ids=["readers are waited for, failures counted", "wrong use"],
)
def test_a_job_waits_for_readers_counts_failures_and_ends_at_wrong_use(
    control_plane: ControlPlane, inference: str, codes: tuple[int, ...], reason: str
) -> None:
    claim, job = example("loader-claim.yaml", inference, "PersistentVolumeClaim", "Job")
    claim["spec"]["storageClassName"] = ""
    claim["spec"]["volumeName"] = f"pv-{inference}"
    job["spec"]["backoffLimit"] = 1
    job["spec"]["template"]["spec"]["schedulerName"] = "nobody"
    control_plane.apply([volume(f"pv-{inference}"), claim, played_by_hand(job)])
    for code in codes:
        end(control_plane, inference, job, code)

    def conditions() -> list[tuple[str, str]]:
        found = control_plane.get_json("job", job["metadata"]["name"], "-n", inference)
        return [(one["type"], one["reason"]) for one in found["status"].get("conditions", ())]

    control_plane.wait_for(
        lambda: ("Failed", reason) in conditions(), 60, f"the Job to fail for {reason}"
    )
