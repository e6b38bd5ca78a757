"""The tests' own count of memory: by the words of the documentation, and against the ledger's."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.cluster.memory import memory_demand
from extender.kube.decode import convert
from extender.kube.objects import Pod
from tests.truth.memory import Object, amount, demand, requested, taken

GIB = 2**30


def container(
    request: str = "", limit: str = "", mounts: tuple[str, ...] = (), *, sidecar: bool = False
) -> Object:
    resources: Object = {}
    if request:
        resources["requests"] = {"memory": request}
    if limit:
        resources["limits"] = {"memory": limit}
    made: Object = {"name": "one", "resources": resources}
    made["volumeMounts"] = [{"name": "ram", "mountPath": path} for path in mounts]
    return {**made, "restartPolicy": "Always"} if sidecar else made


def pod(*containers: Object, size: str | None = None, **spec: Any) -> Object:
    volume: Object = {"name": "ram", "emptyDir": {"medium": "Memory"}}
    if size:
        volume["emptyDir"]["sizeLimit"] = size
    return {"spec": {"containers": list(containers), "volumes": [volume], **spec}}


@pytest.mark.parametrize(
    ("quantity", "number"),
    [("1Gi", GIB), ("1.5G", 15 * 10**8), ("500m", Decimal("0.5")), ("7", 7), ("2k", 2000)],
)
def test_a_quantity_is_a_number(quantity: str, number: Decimal) -> None:
    assert amount(quantity) == number


@pytest.mark.parametrize(
    ("one", "gib"),
    [
        (pod(container("8Gi", mounts=("/ram",)), size="20Gi"), 28),
        (pod(container("8Gi", "24Gi", mounts=("/ram",)), size="20Gi"), 24),
        (
            pod(
                container("8Gi", mounts=("/ram",)),
                size="20Gi",
                resources={"requests": {"memory": "28Gi"}},
            ),
            28,
        ),
        (pod(container("28Gi", "28Gi", mounts=("/ram",)), size="20Gi"), 28),
        (pod(container("8Gi", mounts=("/dev/shm",)), size="16Gi"), 8),
        (pod(container("8Gi", mounts=("/ram",))), 8),
    ],
)
def test_a_pod_takes_what_the_documentation_says(one: Object, gib: int) -> None:
    assert demand(one) == gib * GIB


def test_init_containers_count_one_by_one_beside_the_sidecars_before_them() -> None:
    first, second = container("1Gi", sidecar=True), container("6Gi")
    one = pod(container("4Gi"), initContainers=[first, second], overhead={"memory": "1Gi"})
    assert requested(one) == 8 * GIB


def test_what_has_ended_takes_nothing() -> None:
    one = pod(container("4Gi"))
    assert taken([one, {**one, "status": {"phase": "Succeeded"}}]) == 4 * GIB


def test_a_lowered_limit_counts_once_the_kubelet_has_lowered_it() -> None:
    one = pod(container("1Gi", "8Gi", mounts=("/ram",)), size="50Gi")
    had = {"name": "one", "resources": {"limits": {"memory": "60Gi"}}}
    assert demand({**one, "status": {"containerStatuses": [had]}}) == 51 * GIB
    had["resources"] = {"limits": {"memory": "8Gi"}}
    assert demand({**one, "status": {"containerStatuses": [had]}}) == 8 * GIB


SIZES = st.sampled_from(["", "1Gi", "3Gi", "500Mi", "0"])
MOUNTS = st.lists(st.sampled_from(["/ram", "/dev/shm", "/dev/shm/"]), max_size=2).map(tuple)
CONTAINERS = st.builds(container, SIZES, SIZES, MOUNTS)
SIDECARS = st.builds(container, SIZES, SIZES, sidecar=st.booleans())
PODS = st.builds(
    pod,
    CONTAINERS,
    CONTAINERS,
    size=SIZES,
    initContainers=st.lists(SIDECARS, max_size=3),
    overhead=st.sampled_from([{}, {"memory": "100Mi"}]),
    resources=st.sampled_from(
        [
            {},
            {"requests": {"memory": "4Gi"}},
            {"requests": {"memory": "4Gi"}, "limits": {"memory": "9Gi"}},
        ]
    ),
)


def has(request: str, limit: str) -> Object:
    """Return what a kubelet tells of resources; nothing of those that are empty."""
    return {
        kind: {"memory": quantity} if quantity else {}
        for kind, quantity in (("requests", request), ("limits", limit))
    }


HAD = st.none() | st.builds(has, SIZES, SIZES)
INFEASIBLE = {"type": "PodResizePending", "status": "True", "reason": "Infeasible"}


@settings(max_examples=500, deadline=None)
@given(PODS, st.lists(HAD, min_size=6, max_size=6), st.sampled_from([None, 0, 1, 2]))
def test_the_ledger_counts_the_same(
    one: Object, had: list[Object | None], never: int | None
) -> None:
    found = [] if never is None else [{**INFEASIBLE, "observedGeneration": never}]
    status: Object = {"conditions": found}
    whole, *each_had = had
    for kind in ("container", "initContainer"):
        status[f"{kind}Statuses"] = statuses = []
        for number, each in enumerate(one["spec"][f"{kind}s"]):
            each["name"] = f"{kind}-{number}"
            if given_to := each_had.pop():
                statuses.append({"name": each["name"], "resources": given_to})
    if whole is not None:
        status |= {"resources": whole, "allocatedResources": whole["requests"]}
    one = {**one, "status": status, "metadata": {"generation": 2}}
    assert memory_demand(convert(one, Pod)).bytes == demand(one)
