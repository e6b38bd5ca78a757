"""What the kernel does with memory, beside what the ledger predicts: the memory truth table.

Every row is a pod that fills a memory-backed volume; ``explain`` says what it asks of a node before
it is created. ``make e2e`` prints the table (docs/real-node.md keeps one).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.apart import CGROUPS
from e2e.cluster import NODE, RealCluster
from e2e.explained import explained
from e2e.filling import MI, Case, write
from e2e.node import ALLOCATABLE
from e2e.objects import VERSION_1, ended, phase

SLACK = 6 * MI
"""What a container's own few pages and the kernel's bookkeeping come to."""
ROWS: list[tuple[str, ...]] = []


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
