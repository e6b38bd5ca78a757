"""Two replicas of the scheduler pod, one leads. Each pair lives on a host name of its own."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import pytest

from tests.controlplane.cluster import ControlPlane, Extender
from tests.controlplane.processes import Process
from tests.controlplane.shipped import SCHEDULER, Object, scheduler_config
from tests.controlplane.test_binding import counted, filler

LEASE = {"resourceNamespace": "default", "resourceName": "two-replicas"}
NODES = [f"lead-{number}" for number in range(6)]
PODS, FIT = 200, 180  # thirty of 4 GiB and a bit on each node


@dataclass
class Replica:
    """One kube-scheduler and the extender beside it."""

    host: str
    extender: Extender
    scheduler: Process

    def kill(self) -> None:
        """The node of this replica is gone: both processes at once, without a word."""
        for process in (self.scheduler, self.extender):
            process.kill()


@pytest.fixture
def replicas(control_plane: ControlPlane, namespace: str) -> Iterator[list[Replica]]:
    """Two replicas under a scheduler name of their own; the first one leads."""
    made = []
    for number in range(2):
        host = f"replica-{number}-{secrets.token_hex(2)}"
        lease = f"{LEASE['resourceNamespace']}/{LEASE['resourceName']}-{namespace}"
        extender = control_plane.start_extender(f"--lease={lease}", host=host)
        config = scheduler_config(extender.url)
        config["profiles"] = [{"schedulerName": f"{SCHEDULER}-{namespace}"}]
        config["leaderElection"] = {
            "leaderElect": True,
            "resourceLock": "leases",
            "resourceNamespace": LEASE["resourceNamespace"],
            "resourceName": f"{LEASE['resourceName']}-{namespace}",
            "leaseDuration": "8s",
            "renewDeadline": "5s",
            "retryPeriod": "1s",
        }
        scheduler = control_plane.start_scheduler(config, name=host, host=host)
        made.append(Replica(host, extender, scheduler))
    yield made
    for replica in made:
        for process in (replica.scheduler, replica.extender):
            control_plane.stop_process(process)


def leader(control_plane: ControlPlane, replicas: list[Replica], namespace: str) -> Replica | None:
    name = f"{LEASE['resourceName']}-{namespace}"
    holder = control_plane.kubectl(
        "get", "lease", name, "-n", LEASE["resourceNamespace"], "--ignore-not-found",
        "-o=jsonpath={.spec.holderIdentity}",
    )  # fmt: skip
    found = [replica for replica in replicas if holder.startswith(f"{replica.host}_")]
    return found[0] if found else None


def workload(namespace: str, replicas: int) -> Object:
    deployment = filler(replicas)
    deployment["spec"]["template"]["spec"]["schedulerName"] = f"{SCHEDULER}-{namespace}"
    return deployment


def bound(control_plane: ControlPlane, namespace: str) -> list[str]:
    items = control_plane.get_json("pods", "-n", namespace, "-l", "app=burst")["items"]
    return [item["spec"]["nodeName"] for item in items if item["spec"].get("nodeName")]


def test_a_leader_that_dies_under_load_over_commits_nothing_and_the_other_goes_on(
    control_plane: ControlPlane, namespace: str, replicas: list[Replica]
) -> None:
    seed = secrets.randbelow(2**32)
    random = Random(seed)
    control_plane.add_nodes(NODES, {"cpu": "32", "memory": "123Gi", "pods": "110"})
    control_plane.wait_for(
        lambda: leader(control_plane, replicas, namespace) is not None, 30, "a leader"
    )
    first = leader(control_plane, replicas, namespace)
    assert first is not None
    control_plane.apply(workload(namespace, PODS), namespace)
    wanted = random.randrange(1, FIT // 2)
    deadline = time.monotonic() + 30
    while counted(first.extender, "binds").get("bound", 0) < wanted:
        assert time.monotonic() < deadline, "the leader binds nothing"
    died = time.monotonic()
    first.kill()
    (second,) = (replica for replica in replicas if replica is not first)
    before = len(bound(control_plane, namespace))
    assert before < FIT, "the leader was done before it died"
    control_plane.wait_for(
        lambda: len(bound(control_plane, namespace)) == FIT,
        60,
        f"the other replica to place all that fits (seed {seed}, {before} before)",
    )
    print(f"\nleader killed after {before} pods; all placed {time.monotonic() - died:.1f} s later")  # noqa: T201
    time.sleep(2)
    assert Counter(bound(control_plane, namespace)) == dict.fromkeys(NODES, FIT // len(NODES))
    assert leader(control_plane, replicas, namespace) is second


def test_a_replica_that_does_not_lead_binds_nothing(
    control_plane: ControlPlane, namespace: str, replicas: list[Replica]
) -> None:
    control_plane.add_nodes(["lead-x"])
    control_plane.wait_for(
        lambda: leader(control_plane, replicas, namespace) is not None, 30, "a leader"
    )
    first = leader(control_plane, replicas, namespace)
    (second,) = (replica for replica in replicas if replica is not first)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "lonely"},
        "spec": {
            "schedulerName": "nobody",
            "containers": [{"name": "main", "image": "registry.k8s.io/pause:3.10"}],
        },
    }
    control_plane.apply(pod, namespace)
    made = control_plane.get_json("pod", "lonely", "-n", namespace)["metadata"]
    args = {"PodNamespace": namespace, "PodName": "lonely", "PodUID": made["uid"], "Node": "lead-x"}
    assert "does not lead" in second.extender.post("/bind", args)[1]["Error"]
    assert control_plane.pod_node(namespace, "lonely") is None
