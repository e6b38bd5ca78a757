"""Two replicas of the scheduler pod, one leads. Each lives on a host name of its own.

``make test-leaders`` loses the lead many times (LEADER_ROUNDS, LEADER_SEED); ``make test`` once.
With ``LEADER_TIMES=shipped`` the Lease lasts as long as it does by default.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from extender.kube.times import unix_time
from extender.serving.leadership import SETTLE_SECONDS
from extender.serving.pools import BIND_THREADS
from extender.verbs.doubt import LOST_SECONDS
from extender.watch.resources import PODS as POD_WATCH
from tests.controlplane.cluster import ControlPlane, Extender
from tests.controlplane.faults.kinds_of_fault import late
from tests.controlplane.faults.proxy import Proxy
from tests.controlplane.faults.scene import kubeconfig_through, proxy_for
from tests.controlplane.processes import Process
from tests.controlplane.shipped import SCHEDULER, Object, scheduler_config
from tests.controlplane.test_binding import GIB, counted, filler
from tests.seeds import seed_of

SPACE = "default"
SHIPPED = os.environ.get("LEADER_TIMES") == "shipped"
LEASE_SECONDS, RENEW_SECONDS, RETRY_SECONDS = (15, 10, 2) if SHIPPED else (8, 5, 1)
NODES = [f"lead-{number}" for number in range(6)]
PODS, FIT = 200, 180  # thirty of 4 GiB and a bit on each node
DEMAND = 4 * GIB + 64 * 2**20
"""Bytes of memory that one of these pods takes."""
IN_DOUBT_SECONDS = LOST_SECONDS + 45
"""On a busy machine Bindings are not answered in time, also those of the first half a minute after
the other leads. The memory of each is kept until it is certain that it was not carried out, and for
all to be placed there must be nothing kept."""

IN_FLIGHT_SECONDS = 600
"""Until a leader has sent some Bindings and more are in flight. On a busy machine it may lose the
lead by itself meanwhile, again and again: then all begins anew."""

WAYS = ("killed", "frozen", "released", "robbed", "paused")
"""The node dies; the whole machine stands still, its extender with Bindings that it is sending, and
goes on when the other has placed everything; kube-scheduler stops in good order; somebody else
writes himself into the Lease; kube-scheduler alone stands still, and goes on when the other leads.
"""

ROUNDS = int(os.environ.get("LEADER_ROUNDS") or 1)
SEED = str(seed_of("LEADER_SEED"))

pytestmark = pytest.mark.long


@dataclass
class Replica:
    """One kube-scheduler and the extender beside it, which reaches the apiserver by a proxy."""

    host: str
    proxy: Proxy
    extender: Extender
    scheduler: Process

    @property
    def processes(self) -> tuple[Process, Process]:
        return self.scheduler, self.extender

    def signal(self, number: int, *processes: Process) -> None:
        """Send a signal to some of its processes and to their children."""
        for process in processes:
            for pid in process.pids():
                os.kill(pid, number)

    def wait_ready(self) -> None:
        self.extender.wait_ready(lambda: self.extender.get("/readyz")[0] == 200, 60)


class Pair:
    """Two replicas and their Lease."""

    def __init__(self, control_plane: ControlPlane, folder: Path) -> None:
        self.control_plane = control_plane
        self.suffix = secrets.token_hex(3)
        self.lease = f"two-replicas-{self.suffix}"
        self.scheduler_name = f"{SCHEDULER}-{self.suffix}"
        self.replicas = [self._start(f"replica-{n}-{self.suffix}", folder) for n in range(2)]

    def _start(self, host: str, folder: Path) -> Replica:
        plane = self.control_plane
        proxy = proxy_for(plane)
        proxy.up()
        kubeconfig = kubeconfig_through(proxy, plane, folder)
        lease = f"--lease={SPACE}/{self.lease}"
        extender = plane.start_extender(lease, kubeconfig=kubeconfig, host=host)
        config = scheduler_config(extender.url)
        config["profiles"] = [{"schedulerName": self.scheduler_name}]
        config["leaderElection"] = {
            "leaderElect": True,
            "resourceLock": "leases",
            "resourceNamespace": SPACE,
            "resourceName": self.lease,
            "leaseDuration": f"{LEASE_SECONDS}s",
            "renewDeadline": f"{RENEW_SECONDS}s",
            "retryPeriod": f"{RETRY_SECONDS}s",
        }
        scheduler = plane.start_scheduler(config, name=host, host=host)
        return Replica(host, proxy, extender, scheduler)

    def stop(self) -> None:
        for replica in self.replicas:
            for process in replica.processes:
                self.control_plane.stop_process(process)
            replica.proxy.down()

    def leader(self) -> Replica | None:
        holder = self.control_plane.kubectl(
            "get", "lease", self.lease, "-n", SPACE, "--ignore-not-found",
            "-o=jsonpath={.spec.holderIdentity}",
        )  # fmt: skip
        found = [one for one in self.replicas if holder.startswith(f"{one.host}_")]
        return found[0] if found else None

    def seconds_left(self) -> float:
        """How long the Lease lasts from now, where nobody renews it."""
        spec = self.control_plane.get_json("lease", self.lease, "-n", SPACE)["spec"]
        renewed = unix_time(spec["renewTime"])
        assert renewed is not None
        return renewed + LEASE_SECONDS - time.time()

    def led(self) -> tuple[Replica, Replica]:
        """Let both run, and wait until one leads that may bind; return it and the other one."""
        for replica in self.replicas:
            self.keep(replica)
        for replica in self.replicas:
            replica.wait_ready()
        self.control_plane.wait_for(lambda: self.leader() is not None, 30, "a leader")
        first = self.leader()
        assert first is not None
        (second,) = (replica for replica in self.replicas if replica is not first)
        return first, second

    def keep(self, replica: Replica) -> None:
        """Start what has ended by itself again, as a kubelet does.

        kube-scheduler ends where it cannot renew its Lease in time, as on a machine that is too
        busy for its apiserver to answer within seconds.
        """
        for process in replica.processes:
            if not process.running():
                process.start()

    def rob(self) -> None:
        """Write a stranger into the Lease, who will never renew it."""
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spec = {"holderIdentity": "stranger_1", "acquireTime": now, "renewTime": now}
        patch = json.dumps({"spec": spec})
        self.control_plane.kubectl(
            "patch", "lease", self.lease, "-n", SPACE, "--type=merge", f"-p={patch}"
        )

    def lose(self, first: Replica, way: str) -> None:
        """Take the lead away from the one that has it."""
        if way == "killed":
            for process in first.processes:
                process.kill()
        elif way == "paused":
            first.signal(signal.SIGSTOP, first.scheduler)
        elif way == "frozen":
            first.signal(signal.SIGSTOP, *first.processes)
        elif way == "released":
            first.signal(signal.SIGTERM, first.scheduler)
        else:
            self.rob()

    def workload(self, replicas: int) -> Object:
        deployment = filler(replicas)
        deployment["spec"]["template"]["spec"]["schedulerName"] = self.scheduler_name
        return deployment


@pytest.fixture(scope="module")
def pair(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(control_plane, tmp_path_factory.mktemp("pair"))
    yield made
    made.stop()


def bound(control_plane: ControlPlane, namespace: str) -> list[str]:
    """Return the nodes of the bound pods; each says by its Binding that it was meant to go there.

    A pod with the decision of one Binding and the node of another would have been bound twice.
    """
    items = control_plane.get_json("pods", "-n", namespace, "-l", "app=burst")["items"]
    nodes = []
    for item in items:
        node = item["spec"].get("nodeName")
        if node:
            decision = json.loads(item["metadata"]["annotations"]["modelcache.dev/decision"])
            assert decision["node"] == node
            nodes.append(node)
    return nodes


def unbound(control_plane: ControlPlane, namespace: str) -> set[str]:
    """Return the names of the pods that wait for a node."""
    items = control_plane.get_json("pods", "-n", namespace, "-l", "app=burst")["items"]
    return {item["metadata"]["name"] for item in items if not item["spec"].get("nodeName")}


def waiting(extender: Extender, namespace: str) -> set[str]:
    """Return the names of the pods that this extender knows to wait."""
    listed = json.loads(extender.get("/api/v1/waiting")[1])["waiting"]
    return {
        pod["pod"]
        for pod in listed
        if pod["namespace"] == namespace and pod["refusedBy"] == "extender"
    }


def promised(extender: Extender) -> dict[str, int]:
    """Return the bytes that this extender's ledger has promised, by node."""
    listed = json.loads(extender.get("/api/v1/nodes")[1])["nodes"]
    return {node["name"]: node["promisedBytes"] for node in listed if node["promisedBytes"]}


def decided(extender: Extender) -> float:
    text = extender.get("/metrics")[1]
    lines = [x for x in text.splitlines() if x.startswith("model_cache_extender_decisions_total{")]
    return sum(float(line.split()[-1]) for line in lines)


def brought_to_the_loss(
    pair: Pair, namespace: str, some: int, told: str
) -> tuple[Replica, Replica, int]:
    """Have a leader send some Bindings of many, with more on their way that are held.

    Returns it, the other one, and how often that was begun. A leader that cannot renew its Lease in
    time ends by itself, as on a busy machine; the other then binds, with nothing held.
    """
    deadline = time.monotonic() + IN_FLIGHT_SECONDS
    for begun in itertools.count(1):
        first, second = pair.led()
        first.proxy.hold_bindings(after=some)
        pair.control_plane.apply(pair.workload(PODS), namespace)
        if has_binds_in_flight(pair, first, deadline):
            return first, second, begun
        first.proxy.let_bindings_go()
        binds = counted(first.extender, "binds")
        assert time.monotonic() < deadline, f"no leader stays to bind {some}: {binds} ({told})"
        pair.control_plane.apply(pair.workload(0), namespace)
        pair.control_plane.wait_for(
            lambda: not pair.control_plane.get_json("pods", "-n", namespace)["items"],
            60,
            f"the pods to be gone ({told})",
        )
    raise AssertionError


def has_binds_in_flight(pair: Pair, first: Replica, deadline: float) -> bool:
    """Wait until Bindings of a leader are held; tell whether it leads then."""
    looked = time.monotonic()
    while first.scheduler.running() and (now := time.monotonic()) < deadline:
        if first.proxy.held:
            return pair.leader() is first
        if now > looked + LEASE_SECONDS:
            looked = now
            if pair.leader() is not first:
                return False
        time.sleep(0.02)
    return False


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_leader_that_is_lost_with_binds_in_flight_over_commits_nothing_and_the_other_goes_on(
    control_plane: ControlPlane, pair: Pair, namespace: str, number: int
) -> None:
    random = Random(f"{SEED}-{number}")
    way = WAYS[(sum(SEED.encode()) + number) % len(WAYS)]
    told = f"seed {SEED}, round {number}, {way}"
    control_plane.add_nodes(NODES, {"cpu": "32", "memory": "123Gi", "pods": "110"})
    # With all that may be in flight beside (BIND_THREADS) fewer than fit, or nothing would be left.
    some = random.randrange(1, (FIT - BIND_THREADS) // 4)
    first, second, begun = brought_to_the_loss(pair, namespace, some, told)
    at_first = decided(second.extender)
    left = pair.seconds_left()
    in_flight, lost = first.proxy.held, time.monotonic()
    pair.lose(first, way)
    time.sleep(random.uniform(0, 2.4))  # they are given up after 2.5 s
    first.proxy.let_bindings_go()
    at_loss = len(bound(control_plane, namespace))
    assert at_loss < FIT, f"the leader was done before it lost the lead ({told})"
    control_plane.wait_for(lambda: pair.leader() is second, 60, f"the other to lead ({told})")
    led = time.monotonic()
    while decided(second.extender) == at_first:
        assert time.monotonic() < led + LEASE_SECONDS, f"it leads and decides nothing ({told})"
        time.sleep(0.05)
    first_decision = time.monotonic()
    if way == "paused":
        first.signal(signal.SIGCONT, first.scheduler)

    def all_placed() -> bool:
        pair.keep(second)
        return len(bound(control_plane, namespace)) == FIT

    control_plane.wait_for(
        all_placed,
        IN_DOUBT_SECONDS,
        f"the other replica to place all that fits ({told}, {at_loss} before)",
    )
    if way == "frozen":
        first.signal(signal.SIGCONT, *first.processes)
    print(  # noqa: T201 - figures
        f"\n{told}, begun {begun} times: {in_flight} binds in flight, {at_loss} pods bound, "
        f"the Lease had {left:.1f} s left; the other leads after {led - lost:.1f} s, decides after "
        f"{first_decision - lost:.1f} s, all placed after {time.monotonic() - lost:.1f} s"
    )
    time.sleep(1)
    full = dict.fromkeys(NODES, FIT // len(NODES))
    assert Counter(bound(control_plane, namespace)) == full, told
    assert pair.leader() is second, told
    assert len(unbound(control_plane, namespace)) == PODS - FIT
    left_over = unbound(control_plane, namespace)

    def all_refused() -> bool:
        pair.keep(second)
        return waiting(second.extender, namespace) == left_over

    control_plane.wait_for(
        all_refused,
        60,  # kube-scheduler lets a pod whose bind was lost back off before it asks again
        f"all {len(left_over)} that do not fit to have been refused by the new one ({told})",
    )
    assert promised(second.extender) == {node: DEMAND * fits for node, fits in full.items()}, told
    pair.led()  # the one that was lost runs again, and has been asked nothing since
    control_plane.wait_for(
        lambda: promised(first.extender) == promised(second.extender),
        IN_DOUBT_SECONDS,
        f"the other one to know from the watch what is promised ({told})",
    )
    gone = control_plane.get_json("pods", "-n", namespace, "--field-selector=spec.nodeName=lead-0")
    name = gone["items"][0]["metadata"]["name"]
    control_plane.kubectl("delete", "pod", name, "-n", namespace, "--force", "--grace-period=0")
    control_plane.wait_for(
        lambda: Counter(bound(control_plane, namespace)) == full,
        30,
        f"a waiting pod to take what was given back ({told})",
    )


@pytest.mark.timeout(300)
def test_a_leader_whose_watch_lags_binds_nothing_before_it_knows_what_was_bound_before(
    control_plane: ControlPlane, pair: Pair, namespace: str
) -> None:
    """Its Lease and its Bindings go through; only the events of pods do not come."""
    control_plane.add_nodes(["late-0"], {"cpu": "32", "memory": "41Gi", "pods": "110"})
    first, second = pair.led()
    fenced, go_on = counted(second.extender, "binds").get("fenced", 0), threading.Event()
    second.proxy.meet("event", late(go_on), paths=[POD_WATCH.path])
    try:
        control_plane.apply(pair.workload(10), namespace)
        control_plane.wait_for(lambda: len(bound(control_plane, namespace)) == 10, 60, "10 pods")
        assert promised(second.extender) == {}, "it has heard nothing of them"
        pair.lose(first, "killed")
        control_plane.wait_for(lambda: pair.leader() is second, 60, "the other to lead")
        control_plane.apply(pair.workload(20), namespace)
        control_plane.wait_for(
            lambda: counted(second.extender, "binds").get("fenced", 0) > fenced + 10,
            30,
            "binds to be refused",
        )
        time.sleep(SETTLE_SECONDS)
        assert len(bound(control_plane, namespace)) == 10
        refused = second.extender.log().splitlines()
        assert any("has not told yet of all that was bound before" in line for line in refused)
    finally:
        go_on.set()
    control_plane.wait_for(
        lambda: len(waiting(second.extender, namespace)) == 10, 30, "it to see that they do not fit"
    )
    assert len(bound(control_plane, namespace)) == 10
    assert promised(second.extender) == {"late-0": 10 * DEMAND}
    control_plane.kubectl("scale", "deployment", "burst", "--replicas=0", "-n", namespace)
    control_plane.wait_for(lambda: promised(second.extender) == {}, 30, "all memory to be back")
    control_plane.apply(pair.workload(10), namespace)
    control_plane.wait_for(lambda: len(bound(control_plane, namespace)) == 10, 30, "it to bind")


def test_a_replica_that_does_not_lead_binds_nothing(
    control_plane: ControlPlane, pair: Pair, namespace: str
) -> None:
    control_plane.add_nodes(["lead-x"])
    _, second = pair.led()
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
