"""The memory a pod may take: Kubernetes' request rule, and tmpfs on top of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.cluster.memory import VolumeCounting, memory_demand
from extender.errors import InvalidQuantityError
from tests.builders import pod

GI = 2**30


def container(
    name: str = "c",
    request: str | None = None,
    limit: str | None = None,
    mounts: tuple[str, ...] = (),
    **more: Any,
) -> dict[str, Any]:
    resources: dict[str, Any] = {}
    if request:
        resources["requests"] = {"memory": request}
    if limit:
        resources["limits"] = {"memory": limit}
    paths = [mount.partition(":") for mount in mounts]
    return {
        "name": name,
        "resources": resources,
        "volumeMounts": [{"name": n, "mountPath": path or f"/{n}"} for n, _, path in paths],
        **more,
    }


def ram(name: str = "ram", size: str | None = "10Gi") -> dict[str, Any]:
    source: dict[str, Any] = {"medium": "Memory"}
    if size is not None:
        source["sizeLimit"] = size
    return {"name": name, "emptyDir": source}


def sidecar(request: str, name: str = "s") -> dict[str, Any]:
    return container(name, request, restartPolicy="Always")


# name -> (spec, demand in GiB)
REQUEST_RULE: dict[str, tuple[dict[str, Any], float]] = {
    "no requests at all": ({"containers": [container()]}, 0),
    "containers add up": ({"containers": [container("a", "1Gi"), container("b", "2Gi")]}, 3),
    "a limit alone is a request": ({"containers": [container(limit="2Gi")]}, 2),
    "the largest init container counts": (
        {"containers": [container("a", "1Gi")], "initContainers": [container("i", "5Gi")]},
        5,
    ),
    "init containers run one after another": (
        {
            "containers": [container("a", "4Gi")],
            "initContainers": [container("i", "3Gi"), container("j", "2Gi")],
        },
        4,
    ),
    "sidecars add to the containers": (
        {"containers": [container("a", "1Gi")], "initContainers": [sidecar("2Gi")]},
        3,
    ),
    "an init container runs beside the sidecars before it": (
        {
            "containers": [container("a", "1Gi")],
            "initContainers": [sidecar("2Gi"), container("i", "4Gi")],
        },
        6,
    ),
    "and not beside those after it": (
        {
            "containers": [container("a", "1Gi")],
            "initContainers": [container("i", "4Gi"), sidecar("2Gi")],
        },
        4,
    ),
    "overhead is added": (
        {"containers": [container("a", "1Gi")], "overhead": {"memory": "128Mi"}},
        1.125,
    ),
    "a pod-level request replaces the sum": (
        {
            "containers": [container("a", "1Gi")],
            "resources": {"requests": {"memory": "6Gi"}},
        },
        6,
    ),
    "huge pages are apart": (
        {
            "containers": [
                {
                    "name": "a",
                    "resources": {"requests": {"memory": "1Gi", "hugepages-2Mi": "4Gi"}},
                    "volumeMounts": [{"name": "huge", "mountPath": "/huge"}],
                }
            ],
            "volumes": [{"name": "huge", "emptyDir": {"medium": "HugePages-2Mi"}}],
        },
        1,
    ),
}

VOLUMES: dict[str, tuple[dict[str, Any], float]] = {
    "a sized volume comes on top": (
        {"containers": [container(request="1Gi", mounts=("ram",))], "volumes": [ram()]},
        11,
    ),
    "two volumes add up": (
        {"containers": [container(request="1Gi")], "volumes": [ram(), ram("b", "2Gi")]},
        13,
    ),
    "a disk-backed emptyDir is no memory": (
        {
            "containers": [container(request="1Gi")],
            "volumes": [{"name": "d", "emptyDir": {"sizeLimit": "50Gi"}}],
        },
        1,
    ),
    "the article's /dev/shm is capacity": (
        {
            "containers": [container(request="1Gi", mounts=("ram:/dev/shm",))],
            "volumes": [ram(size="16Gi")],
        },
        1,
    ),
    "a volume mounted elsewhere too is use": (
        {
            "containers": [container(request="1Gi", mounts=("ram:/dev/shm", "ram:/cache"))],
            "volumes": [ram()],
        },
        11,
    ),
    "no sizeLimit is not counted": (
        {"containers": [container(request="1Gi", mounts=("ram",))], "volumes": [ram(size=None)]},
        1,
    ),
    "a sizeLimit of 0 is none": (
        {"containers": [container(request="1Gi", mounts=("ram",))], "volumes": [ram(size="0")]},
        1,
    ),
    "request = limit of a container that mounts it already holds it": (
        {
            "containers": [container(request="12Gi", limit="12Gi", mounts=("ram",))],
            "volumes": [ram()],
        },
        12,
    ),
    "request = limit of a small container beside it does not": (
        {
            "containers": [
                container("a", "1Gi", mounts=("ram",)),
                container("exporter", "1Gi", "1Gi", mounts=("ram",)),
            ],
            "volumes": [ram()],
        },
        12,
    ),
    "a limit that holds one volume and not both holds none": (
        {
            "containers": [
                container("a", "12Gi", "12Gi", mounts=("ram:/a", "more:/b")),
                container("b", "1Gi"),
            ],
            "volumes": [ram(), ram("more", "3Gi")],
        },
        26,
    ),
    "shared memory takes nothing of the room for a volume": (
        {
            "containers": [
                container("a", "12Gi", "12Gi", mounts=("ram:/a", "shm:/dev/shm")),
                container("b", "1Gi"),
            ],
            "volumes": [ram(), ram("shm", "16Gi")],
        },
        13,
    ),
    "request = limit of another container does not": (
        {
            "containers": [
                container("a", "12Gi", "12Gi"),
                container("b", "1Gi", mounts=("ram",)),
            ],
            "volumes": [ram()],
        },
        23,
    ),
    "request = limit of an init container does not: its request ends with it": (
        {
            "containers": [container("a", "2Gi", mounts=("ram",))],
            "initContainers": [container("i", "12Gi", "12Gi", mounts=("ram",))],
            "volumes": [ram()],
        },
        12,
    ),
    "pages of an init container stay charged beside the app": (
        {
            "containers": [container("a", "4Gi", mounts=("ram",))],
            "initContainers": [container("i", "1Gi", mounts=("ram",))],
            "volumes": [ram()],
        },
        14,
    ),
    "a pod limit is the most it can take": (
        {
            "containers": [container(request="1Gi", limit="6Gi", mounts=("ram",))],
            "volumes": [ram()],
        },
        6,
    ),
    "one container without a limit means no pod limit": (
        {
            "containers": [container("a", "1Gi", "6Gi", ("ram",)), container("b", "1Gi")],
            "volumes": [ram()],
        },
        12,
    ),
    "an init container without a limit means no pod limit": (
        {
            "containers": [container("a", "1Gi", "6Gi", ("ram",))],
            "initContainers": [container("i")],
            "volumes": [ram()],
        },
        11,
    ),
    "a pod-level limit bounds it": (
        {
            "containers": [container("a", "1Gi", mounts=("ram",))],
            "resources": {"limits": {"memory": "5Gi"}, "requests": {"memory": "1Gi"}},
            "volumes": [ram()],
        },
        5,
    ),
    "a pod-level request that shows the volume is enough": (
        {
            "containers": [container("a", "1Gi", mounts=("ram",))],
            "resources": {"requests": {"memory": "11Gi"}},
            "volumes": [ram()],
        },
        11,
    ),
}


@pytest.mark.parametrize("name", REQUEST_RULE)
def test_effective_request_follows_kubernetes_rule(name: str) -> None:
    spec, expected = REQUEST_RULE[name]
    demand = memory_demand(pod(spec=spec))
    assert demand.request == demand.bytes == expected * GI


@pytest.mark.parametrize("name", VOLUMES)
def test_memory_volumes_come_on_top_of_what_requests_cover(name: str) -> None:
    spec, expected = VOLUMES[name]
    assert memory_demand(pod(spec=spec)).bytes == expected * GI


def test_a_model_smaller_than_its_volume_counts_with_its_own_size() -> None:
    spec = {"containers": [container(request="1Gi", mounts=("ram",))], "volumes": [ram()]}
    assert memory_demand(pod(spec=spec), model_bytes={"ram": 3 * GI}).bytes == 4 * GI
    assert memory_demand(pod(spec=spec), model_bytes={"ram": 30 * GI}).bytes == 11 * GI


def test_off_counts_requests_alone() -> None:
    spec = {"containers": [container(request="1Gi", mounts=("ram",))], "volumes": [ram()]}
    assert memory_demand(pod(spec=spec), counting=VolumeCounting.OFF).bytes == GI


def test_strict_counts_shared_memory_and_takes_the_limit_for_unsized_volumes() -> None:
    shm = {
        "containers": [container(request="1Gi", mounts=("ram:/dev/shm",))],
        "volumes": [ram(size="16Gi")],
    }
    assert memory_demand(pod(spec=shm), counting=VolumeCounting.STRICT).bytes == 17 * GI
    limited = {
        "containers": [container(request="1Gi", limit="8Gi", mounts=("ram",))],
        "volumes": [ram(size=None)],
    }
    assert memory_demand(pod(spec=limited), counting=VolumeCounting.STRICT).bytes == 8 * GI


def test_strict_takes_the_whole_node_for_a_volume_without_any_limit() -> None:
    spec = {"containers": [container(request="1Gi", mounts=("ram",))], "volumes": [ram(size=None)]}
    demand = memory_demand(pod(spec=spec), counting=VolumeCounting.STRICT)
    assert demand.unbounded
    assert demand.on(64 * GI) == 64 * GI


def test_a_resize_in_progress_counts_the_larger_side() -> None:
    spec = {"containers": [container("a", "2Gi")]}
    status = {"containerStatuses": [{"name": "a", "allocatedResources": {"memory": "4Gi"}}]}
    assert memory_demand(pod(spec=spec, status=status)).bytes == 4 * GI


def test_an_infeasible_resize_counts_what_was_given() -> None:
    spec = {"containers": [container("a", "32Gi")]}
    status = {
        "containerStatuses": [{"name": "a", "allocatedResources": {"memory": "4Gi"}}],
        "conditions": [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}],
    }
    assert memory_demand(pod(spec=spec, status=status)).bytes == 4 * GI


def told(limit: str, request: str = "1Gi") -> dict[str, Any]:
    """Return what a kubelet tells that a container has."""
    resources = {"requests": {"memory": request}, "limits": {"memory": limit}}
    return {"name": "a", "allocatedResources": {"memory": request}, "resources": resources}


def lowered(limit: str, request: str = "1Gi") -> dict[str, Any]:
    """Return a spec with this limit and a tmpfs of 50Gi."""
    return {
        "containers": [container("a", request, limit, mounts=("ram",))],
        "volumes": [ram(size="50Gi")],
    }


def test_a_limit_that_is_lowered_counts_once_the_kubelet_has_carried_it_out() -> None:
    def bytes_with(given: str) -> int:
        status = {"containerStatuses": [told(given)]}
        return memory_demand(pod(spec=lowered("8Gi"), status=status)).bytes

    assert (bytes_with("60Gi"), bytes_with("8Gi")) == (51 * GI, 8 * GI)


def test_so_does_a_limit_of_the_whole_pod() -> None:
    """The containers' own are lowered first, the pod's once no more than that is used."""
    whole = {**lowered("8Gi"), "resources": {"limits": {"memory": "8Gi"}}}
    whole["containers"] = [container("a", "1Gi", mounts=("ram",))]
    status = {"resources": {"limits": {"memory": "60Gi"}}}
    assert memory_demand(pod(spec=whole, status=status)).bytes == 51 * GI
    status["containerStatuses"] = [told("8Gi")]  # type: ignore[assignment]
    assert memory_demand(pod(spec=lowered("8Gi"), status=status)).bytes == 51 * GI


def test_what_the_kubelet_tells_of_a_pod_has_its_overhead_in_it() -> None:
    spec = {**lowered("8Gi"), "overhead": {"memory": "2Gi"}}
    status = {"resources": {"limits": {"memory": "10Gi"}}}
    assert memory_demand(pod(spec=spec, status=status)).bytes == 10 * GI


def test_an_infeasible_limit_is_not_the_limit() -> None:
    status = {
        "containerStatuses": [told("8Gi")],
        "conditions": [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}],
    }
    assert memory_demand(pod(spec=lowered("60Gi"), status=status)).bytes == 8 * GI


def test_what_was_infeasible_before_says_nothing_of_what_is_wanted_now() -> None:
    """The kubelet may have given it already, and tell so a moment later."""
    infeasible = {"type": "PodResizePending", "status": "True", "reason": "Infeasible"}

    def bytes_with(observed: int) -> int:
        condition = {**infeasible, "observedGeneration": observed}
        status = {"containerStatuses": [told("8Gi")], "conditions": [condition]}
        one = pod(spec=lowered("20Gi"), status=status, metadata={"generation": 3})
        return memory_demand(one).bytes

    assert bytes_with(2) == 20 * GI
    assert bytes_with(3) == 8 * GI


def test_a_limit_that_is_new_bounds_nothing_yet() -> None:
    had = {"name": "a", "resources": {"requests": {"memory": "1Gi"}}}
    status = {"containerStatuses": [had]}
    assert memory_demand(pod(spec=lowered("8Gi"), status=status)).bytes == 51 * GI


def test_a_limit_holds_a_volume_only_as_far_as_it_is_requested() -> None:
    """Request and limit were 60Gi and are to be 8Gi; the request is lowered at once."""
    spec = lowered("8Gi", "8Gi")
    spec["containers"].append(container("b"))
    one = pod(spec=spec, status={"containerStatuses": [told("60Gi", "8Gi")]})
    assert memory_demand(one).bytes == 58 * GI
    one = pod(spec=spec, status={"containerStatuses": [told("60Gi", "60Gi")]})
    assert memory_demand(one).bytes == 60 * GI


def test_a_quantity_that_cannot_be_read_is_refused_for_that_pod() -> None:
    with pytest.raises(InvalidQuantityError):
        memory_demand(pod(spec={"containers": [container(request="lots")]}))


gibibytes = st.integers(min_value=0, max_value=64)


@given(gibibytes, gibibytes, gibibytes)
def test_demand_is_never_below_the_request_and_never_above_request_plus_volumes(
    request: int, init: int, size: int
) -> None:
    spec = {
        "containers": [container("a", f"{request}Gi", mounts=("ram",))],
        "initContainers": [container("i", f"{init}Gi")],
        "volumes": [ram(size=f"{size}Gi")],
    }
    demand = memory_demand(pod(spec=spec))
    assert max(request, init) * GI <= demand.bytes <= (max(request, init) + size) * GI
