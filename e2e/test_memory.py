"""What the kernel does with memory, beside what the ledger predicts: the memory truth table.

Every row is a pod that fills a memory-backed volume; ``explain`` says what it asks of a node before
it is created. ``make e2e`` prints the table (docs/real-node.md keeps one).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cgroups import VERSION_1
from e2e.charging import charged
from e2e.cluster import NODE, RealCluster
from e2e.explained import explained
from e2e.filling import MI, Case, write
from e2e.node import ALLOCATABLE
from e2e.objects import ended, phase

SLACK = 6 * MI
"""What a container's own few pages and the kernel's bookkeeping come to."""
ROWS: dict[str, tuple[str, ...]] = {}
"""Of the table, by the case."""


CASES = [
    Case("80 MiB within a limit of 100 MiB", 100, "Completed", 0, 80, limit=100, main=80),
    Case(
        "an init container wrote 50 MiB and ended; then 80 MiB, limit 100 MiB",
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
        "the same with them, the init container's limit being 200 MiB",
        200,
        "Completed",
        0,
        size_limit=200,
        limit=100,
        init=50,
        init_limit=200,
        main=80,
    ),
    Case("80 MiB into a volume of 50 MiB", 114, "Error", 1, 50, request=64, main=80),
    Case(
        "a shell whose child is killed at the limit",
        100,
        "OOMKilled",
        0,
        size_limit=200,
        limit=100,
        main=150,
        command=f"{write('main', 150)}; exit 0",
        warnings=frozenset({"OversizedMemoryVolume"}),
    ),
    Case(
        "request 64 MiB, no limit, 100 MiB into a volume of 100 MiB",
        164,
        "Completed",
        0,
        100,
        request=64,
        main=100,
    ),
    Case(
        "request 64 MiB, no limit, 100 MiB into a volume without sizeLimit",
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
    rows = (ROWS[case.name] for case in CASES if case.name in ROWS)
    print("\n" + "\n".join(f"| {' | '.join(row)} |" for row in (heads, *rows)))


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
    with charged(cluster.real[NODE], uid) as kernel:
        cluster.wait_for(
            lambda: ended(cluster.pod(namespace, "case")) is not None, 90, "the pod's end"
        )
    most = kernel.most
    outcome = ended(cluster.pod(namespace, "case"))
    assert outcome is not None
    amounts = (f"{amount / MI:.0f} MiB" for amount in (case.demand * MI, most))
    ROWS[case.name] = (case.name, *amounts, f"{outcome[0]} {outcome[1]}")
    # What the kernel charged is what was written, and a little; neither less nor more.
    assert case.pages * MI <= most <= case.pages * MI + SLACK
    # The ledger holds what the kernel would let the pod take, where that is bounded at all.
    assert kernel.limit == (None if case.pod_limit is None else case.demand * MI)
    if "UnsizedMemoryVolume" in case.warnings:
        assert most > case.demand * MI  # nothing was counted for it: this is what is warned of
    else:
        assert most <= case.demand * MI + SLACK
    # Version 2 kills the whole container, whatever its shell would have said.
    code = 137 if case.reason == "OOMKilled" and not VERSION_1 else case.code
    assert outcome == (case.reason, code)


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
