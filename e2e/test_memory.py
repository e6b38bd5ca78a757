"""What the kernel does with memory, beside what the ledger predicts: the memory truth table.

Every row is a pod that fills a memory-backed volume; ``explain`` says what it asks of a node before
it is created. ``make e2e`` prints the table (docs/real-node.md keeps one).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from e2e.apart import CGROUPS
from e2e.cluster import NODE, RealCluster
from e2e.explained import explained
from e2e.images import PAUSE
from e2e.node import ALLOCATABLE
from e2e.objects import VERSION_1, Object, ended, phase, pod

MI = 1 << 20
SLACK = 6 * MI
"""What a container's own few pages and the kernel's bookkeeping come to."""
ROWS: list[tuple[str, ...]] = []


@dataclass(frozen=True)
class Case:
    """A pod with a memory-backed volume, and what becomes of it.

    ``writes``: MiB that the init container (None: there is none) and the main container write into
    the volume; ``demand``: MiB that the ledger counts; ``reason``, ``code``: of the main container.
    """

    name: str
    demand: int
    reason: str
    code: int
    size_limit: int | None = None
    limit: int | None = None
    request: int | None = None
    init: int | None = None
    init_limit: int | None = None
    main: int = 0
    warnings: frozenset[str] = field(default_factory=frozenset)
    command: str = ""

    def manifest(self) -> Object:
        """Return the pod."""
        volume: Object = {"medium": "Memory"}
        if self.size_limit is not None:
            volume["sizeLimit"] = f"{self.size_limit}Mi"
        mounts = [{"name": "memory", "mountPath": "/memory"}]
        script = self.command or f"exec {write('main', self.main)}"
        containers: Object = {
            "volumeMounts": mounts,
            "resources": resources(self.limit, self.request),
        }
        spec: Object = {"volumes": [{"name": "memory", "emptyDir": volume}]}
        if self.init is not None:
            spec["initContainers"] = [
                {
                    "name": "fill",
                    "image": PAUSE,
                    "command": ["sh", "-c", f"exec {write('init', self.init)}"],
                    "volumeMounts": mounts,
                    "resources": resources(self.init_limit or self.limit, self.request),
                }
            ]
        return pod("case", PAUSE, ["sh", "-c", script], container=containers, **spec)


def write(name: str, mebibytes: int) -> str:
    """Return the command that writes so much into the volume."""
    return f"dd if=/dev/zero of=/memory/{name} bs=1M count={mebibytes}"


def resources(limit: int | None, request: int | None) -> Object:
    """Return a container's memory resources in MiB."""
    given = {"limits": limit, "requests": request}
    return {kind: {"memory": f"{size}Mi"} for kind, size in given.items() if size is not None}


CASES = [
    Case("within request and limit", 100, "Completed", 0, size_limit=80, limit=100, main=80),
    Case(
        "pages of an ended init container stay charged to the pod",
        100,
        "OOMKilled",
        137,
        size_limit=200,
        limit=100,
        init=50,
        main=80,
        warnings=frozenset({"OversizedMemoryVolume"}),
    ),
    Case(
        "the same without the init container's pages",
        100,
        "Completed",
        0,
        size_limit=200,
        limit=100,
        main=80,
        warnings=frozenset({"OversizedMemoryVolume"}),
    ),
    Case(
        "an init container's larger limit is the pod's",
        200,
        "Completed",
        0,
        size_limit=200,
        limit=100,
        init=50,
        init_limit=200,
        main=80,
    ),
    Case(
        "past the sizeLimit there is no room, and no kill", 114, "Error", 1, 50, request=64, main=80
    ),
    Case(
        "a shell whose child is killed ends as it likes",
        100,
        "OOMKilled",
        0,
        size_limit=200,
        limit=100,
        command=f"{write('main', 150)}; exit 0",
        warnings=frozenset({"OversizedMemoryVolume"}),
    ),
    Case(
        "without limits the volume adds to the request",
        164,
        "Completed",
        0,
        100,
        request=64,
        main=100,
    ),
    Case(
        "without a sizeLimit nothing is counted",
        64,
        "Completed",
        0,
        request=64,
        main=100,
        warnings=frozenset({"UnsizedMemoryVolume"}),
    ),
]


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """Print the table at the end."""
    yield
    heads = ("case", "ledger", "charged at most", "container")
    print("\n" + "\n".join(f"| {' | '.join(row)} |" for row in (heads, *ROWS)))


def charged(cluster: RealCluster, uid: str) -> int:
    """Return the most that was ever charged to a pod's cgroup, bytes; 0 once it is gone."""
    name = "memory.max_usage_in_bytes" if VERSION_1 else "memory.peak"
    top = (CGROUPS / "memory" if VERSION_1 else CGROUPS) / cluster.real[NODE].machine.cgroup
    for folder in top.rglob(f"pod{uid}"):
        try:
            return int((folder / name).read_text(encoding="ascii"))
        except OSError:
            return 0
    return 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_kernel_does_as_the_ledger_counts(
    cluster: RealCluster, namespace: str, tmp_path: Path, case: Case
) -> None:
    manifest = case.manifest()
    manifest["spec"]["nodeName"] = NODE
    predicted = explained(cluster, namespace, manifest, tmp_path)
    assert predicted["memory"]["demandBytes"] == case.demand * MI
    assert {warning["reason"] for warning in predicted["warnings"]} >= case.warnings
    cluster.apply(manifest, namespace)
    uid = cluster.pod(namespace, "case")["metadata"]["uid"]
    most = 0

    def over() -> bool:
        nonlocal most
        most = max(most, charged(cluster, uid))
        return ended(cluster.pod(namespace, "case")) is not None

    cluster.wait_for(over, 90, "the pod's end")
    outcome = ended(cluster.pod(namespace, "case"))
    assert outcome is not None
    ROWS.append(
        (case.name, f"{case.demand} MiB", f"{most / MI:.0f} MiB", f"{outcome[0]} {outcome[1]}")
    )
    if case.code == 0 and case.reason == "OOMKilled" and not VERSION_1:
        return  # version 2 kills the whole container, whatever its shell would have said
    assert outcome == (case.reason, case.code)
    counted = "UnsizedMemoryVolume" not in case.warnings
    if most and counted:
        assert most <= case.demand * MI + SLACK


@pytest.mark.parametrize(
    ("size_limit", "limit", "expected"),
    [(50, None, 50), (200, 100, 100), (None, 100, 100), (None, None, ALLOCATABLE // MI)],
)
def test_a_volumes_size_is_the_least_of_its_limit_the_pods_and_the_nodes(
    cluster: RealCluster,
    namespace: str,
    size_limit: int | None,
    limit: int | None,
    expected: int,
) -> None:
    look = "df -m /memory | tail -1 | awk '{print $2}'"
    case = Case("size", 0, "", 0, size_limit, limit, request=16, command=look)
    cluster.apply(case.manifest(), namespace)
    cluster.wait_for(lambda: phase(cluster, namespace, "case") == "Succeeded", 90, "the pod's end")
    assert abs(int(cluster.logs(namespace, "case")) - expected) <= 1


def test_a_pod_that_the_ledger_admits_runs_and_one_that_it_refuses_is_killed_or_kills(
    cluster: RealCluster, namespace: str, tmp_path: Path
) -> None:
    def filling(name: str, mebibytes: int) -> Object:
        case = Case(
            name,
            0,
            "",
            0,
            size_limit=mebibytes,
            request=32,
            init=mebibytes - 1,
            command="exec sleep 600",
        )
        manifest = case.manifest()
        manifest["metadata"]["name"] = name
        return manifest

    free = (
        explained(cluster, namespace, filling("probe", 32), tmp_path)["nodes"][0]["memoryFreeBytes"]
        // MI
    )
    admitted = filling("admitted", free - 64)
    assert explained(cluster, namespace, admitted, tmp_path)["nodes"][0]["fits"]
    cluster.apply(admitted, namespace)
    cluster.wait_for(
        lambda: phase(cluster, namespace, "admitted") == "Running", 120, "the admitted pod to run"
    )
    refused = filling("refused", 1024)
    verdict = explained(cluster, namespace, refused, tmp_path)["nodes"][0]
    assert (verdict["fits"], verdict["reason"]) == (False, "InsufficientMemory")
    refused["spec"]["nodeName"] = NODE
    cluster.apply(refused, namespace)

    def somebody_suffers() -> bool:
        pods = [cluster.pod(namespace, name) for name in ("admitted", "refused")]
        statuses = [
            status.get(kind, {}).get("terminated", {}).get("reason")
            for found in pods
            for kinds in ("initContainerStatuses", "containerStatuses")
            for status in found["status"].get(kinds, [])
            for kind in ("state", "lastState")
        ]
        return "OOMKilled" in statuses or any(
            found["status"]["phase"] == "Failed" for found in pods
        )

    cluster.wait_for(somebody_suffers, 120, "the kernel or the kubelet to kill for memory")
    cluster.kubectl("delete", "pod", "admitted", "refused", "-n", namespace, "--grace-period=1")
    # By this the kubelet judges whether to evict more pods.
    cluster.wait_for(lambda: available(cluster) > 1 << 30, 120, "the kubelet to see it is over")


def available(cluster: RealCluster) -> int:
    """Return the bytes that the kubelet believes to be available for pods."""
    stats = cluster.read(f"/api/v1/nodes/{NODE}/proxy/stats/summary")
    (pods,) = (one for one in stats["node"]["systemContainers"] if one["name"] == "pods")
    return int(pods["memory"]["availableBytes"])
