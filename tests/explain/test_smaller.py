"""What would fit fits once it is pasted; where nothing smaller would do, what else would."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.cluster.state import ClusterState
from extender.explain.document import explain
from extender.kube.decode import convert
from extender.kube.objects import KubeObject, Node, Pod
from extender.verbs.context import Context
from extender.workload.manifest import parts_of
from tests.builders import DOWNLOAD

GPU = "nvidia.com/gpu"
Manifest = dict[str, Any]


def machine(memory: str = "24Gi", **more: str) -> Node:
    allocatable = {"cpu": "4", "memory": memory, "pods": "110", GPU: "2", **more}
    return convert({"metadata": {"name": "a"}, "status": {"allocatable": allocatable}}, Node)


def container(name: str, *, limits: Any = None, **requests: str) -> Manifest:
    asked = {key.replace("gpu", GPU): value for key, value in requests.items()}
    return {"name": name, "resources": {"requests": asked, "limits": limits or {}}}


def asking(*containers: Manifest, **spec: Any) -> Manifest:
    named = {"schedulerName": "model-cache-scheduler", "containers": list(containers), **spec}
    return {"kind": "Pod", "metadata": {"name": "p", "namespace": "inference"}, "spec": named}


def in_memory(size: str = "20Gi", **requests: str) -> Manifest:
    """A pod that downloads a model of 16 GB into a memory-backed volume."""
    mounts = [{"name": "models", "mountPath": "/models"}]
    serving = container("vllm", **requests) | {
        "image": "vllm/vllm-openai:v0.11.0",
        "args": ["--model", "/models/llama-3.1-8b-instruct"],
        "volumeMounts": mounts,
    }
    fetching = {"name": "fetch", "command": ["sh", "-c", DOWNLOAD], "volumeMounts": mounts}
    held = {"name": "models", "emptyDir": {"medium": "Memory", "sizeLimit": size}}
    return asking(serving, initContainers=[fetching], volumes=[held])


def answer(manifest: Manifest, *objects: KubeObject) -> dict[str, Any]:
    state = ClusterState(clock=lambda: 1_000.0)
    for obj in objects:
        state.upsert(obj)
    (part,) = parts_of(manifest)
    (found,) = explain(part.pod, Context(state=state), part.asked)["nodes"]
    return dict(found)


def ways(found: dict[str, Any]) -> list[str]:
    """Return each way to fit that is told of a node."""
    _, said, rest = (found["remedy"] or "").partition("it would fit with ")
    return rest.partition("; ")[0].split(", or with ") if said else []


def pasted(manifest: Manifest, way: str) -> Manifest:
    """Return the manifest with the fields that a way names set to what it says."""
    changed = copy.deepcopy(manifest)
    spec = changed["spec"]
    listed = [*spec["containers"], *spec.get("initContainers", ())]
    for pair in way.split(", and "):
        fields, _, value = pair.rpartition(": ")
        fields, _, name = fields.partition(" of ")
        name = name.removeprefix("init ").removeprefix("container ")
        for field in fields.split(" and "):
            if field.startswith("spec.volumes["):
                spec["volumes"][int(field[13])]["emptyDir"]["sizeLimit"] = value
                continue
            of_the_pod = field.startswith("spec.")
            target = spec if of_the_pod else next(c for c in listed if name in {"", c["name"]})
            _, kind, resource = field.removeprefix("spec.").split(".", 2)
            target.setdefault("resources", {}).setdefault(kind, {})[resource] = value
    return changed


def resources_of(manifest: Manifest) -> Iterator[dict[str, dict[str, str]]]:
    spec = manifest["spec"]
    for one in (spec, *spec["containers"], *spec.get("initContainers", ())):
        yield one.get("resources", {})


SMALLER: dict[str, tuple[Manifest, str]] = {
    "an init container and the one after it": (
        asking(container("main", memory="40Gi"), initContainers=[container("copy", memory="50Gi")]),
        "resources.requests.memory of init container copy: 24Gi, and resources.requests.memory of "
        "container main: 24Gi",
    ),
    "all together": (
        asking(container("a", memory="30Gi"), container("b", memory="30Gi")),
        "resources.requests.memory of container a: 12Gi, and resources.requests.memory of "
        "container b: 12Gi",
    ),
    "several resources": (
        asking(container("main", gpu="3", cpu="5")),
        f"resources.requests.{GPU} and resources.limits.{GPU}: 2, and resources.requests.cpu: 4",
    ),
    "beside an overhead": (
        asking(container("main", memory="30Gi"), overhead={"memory": "1Gi"}),
        "resources.requests.memory: 23Gi",
    ),
    "a volume and a request": (
        in_memory(memory="8Gi"),
        "spec.volumes[0].emptyDir.sizeLimit: 17Gi, and resources.requests.memory of container "
        "vllm: 7Gi",
    ),
    "beside a volume that is no larger than it has to be": (
        in_memory("17Gi", memory="8Gi"), "resources.requests.memory of container vllm: 7Gi",
    ),
    "a volume that the pod requests": (
        in_memory(memory="8Gi") | {"spec": in_memory(memory="8Gi")["spec"] | {
            "resources": {"requests": {"memory": "28Gi"}}
        }},
        "spec.volumes[0].emptyDir.sizeLimit: 17Gi, and resources.requests.memory of container "
        "vllm: 7Gi, and spec.resources.requests.memory: 24Gi",
    ),
    "a limit that holds a volume": (
        in_memory() | {"spec": in_memory("24Gi")["spec"] | {"containers": [
            in_memory()["spec"]["containers"][0]
            | container("vllm", memory="30Gi", limits={"memory": "30Gi"})
        ]}},
        "resources.requests.memory and resources.limits.memory of container vllm: 24Gi",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SMALLER)
def test_what_would_fit_is_named_field_by_field_and_fits_once_it_is_pasted(case: str) -> None:
    manifest, said = SMALLER[case]
    if case == "several resources":
        (main,) = manifest["spec"]["containers"]
        main["resources"]["limits"] = {GPU: "3"}
    found = answer(manifest, machine())
    assert not found["fits"]
    assert said in ways(found)
    for way in ways(found):
        assert answer(pasted(manifest, way), machine())["fits"], way


QUANTITY = st.integers(1, 60).map(lambda size: f"{size}Gi") | st.integers(1, 10**11).map(str)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """A pod of a few containers that ask for memory, CPU and GPUs, and keep a model in memory."""

    def one(name: str) -> Manifest:
        memory, cpu = draw(QUANTITY), draw(st.integers(1, 9_000))
        gpus = str(draw(st.integers(0, 4)))
        found = container(name, memory=memory, cpu=f"{cpu}m")
        limits: dict[str, str] = {}
        if gpus != "0":
            limits[GPU] = gpus
            if draw(st.booleans()):
                found["resources"]["requests"][GPU] = gpus
        if draw(st.booleans()):
            limits["memory"] = memory
        found["resources"]["limits"] = limits
        return found

    manifest = in_memory(draw(QUANTITY)) if draw(st.booleans()) else asking(container("vllm"))
    spec = manifest["spec"]
    spec["containers"][0] |= one("vllm")
    spec["containers"] += [one(f"c{number}") for number in range(draw(st.integers(0, 2)))]
    more = [one(f"i{number}") for number in range(draw(st.integers(0, 2)))]
    if draw(st.booleans()):
        more = [init | {"restartPolicy": "Always"} for init in more]
    spec["initContainers"] = [*spec.get("initContainers", ()), *more]
    if draw(st.booleans()):
        spec["overhead"] = {"memory": draw(QUANTITY), "cpu": "250m"}
    return manifest


@settings(max_examples=150)
@given(manifests())
def test_whatever_is_said_to_fit_fits_and_could_be_created(manifest: Manifest) -> None:
    for way in ways(answer(manifest, machine())):
        changed = pasted(manifest, way)
        assert answer(changed, machine())["fits"], way
        for resources in resources_of(changed):
            requests, limits = resources.get("requests", {}), resources.get("limits", {})
            for name in requests.keys() & limits.keys():
                asked, limit = (_amount(named[name]) for named in (requests, limits))
                assert asked == limit if name == GPU else asked <= limit, way


def _amount(quantity: str) -> int:
    for suffix, factor in (("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)):
        if quantity.endswith(suffix):
            return int(quantity.removesuffix(suffix)) * factor
    return int(quantity)


# -- where nothing smaller would do ----------------------------------------------------------------


def of_a_daemon_set(name: str, **requests: str) -> Pod:
    owner = {"kind": "DaemonSet", "name": "dcgm", "controller": True}
    metadata = {"name": name, "namespace": "gpu", "uid": name, "ownerReferences": [owner]}
    spec = {"nodeName": "a", "containers": [container("main", **requests)]}
    return convert({"metadata": metadata, "spec": spec, "status": {"phase": "Running"}}, Pod)


def test_what_the_pods_of_daemon_sets_hold_for_good_is_to_be_taken_from_them() -> None:
    held = (of_a_daemon_set("dcgm-x", gpu="1"), of_a_daemon_set("small", cpu="100m"))
    found = answer(asking(container("main", gpu="1")), machine(**{GPU: "1"}), *held)
    assert found["remedy"].endswith(
        "; what stays there is gpu/dcgm-x: have it request less, or keep it off the node: kubectl "
        "edit daemonset -n gpu dcgm"
    )
    held = (held[0], of_a_daemon_set("dcgm-y", gpu="2"))
    found = answer(asking(container("main", gpu="1")), machine(**{GPU: "3"}), *held)
    assert "; of 2 pods that stay there gpu/dcgm-y takes most: have it" in found["remedy"]
    without = answer(asking(container("main", gpu="1")), machine(**{GPU: "1"}))
    assert without["fits"]


def test_where_others_take_the_memory_that_only_we_count_one_is_told_how_to_see_them() -> None:
    pages = {"name": "held", "emptyDir": {"medium": "Memory", "sizeLimit": "60Gi"}}
    spec = {"nodeName": "a", "containers": [container("main")], "volumes": [pages]}
    metadata = {"name": "other", "namespace": "n", "uid": "other"}
    other = convert({"metadata": metadata, "spec": spec, "status": {"phase": "Running"}}, Pod)
    volume = {"name": "models", "emptyDir": {"medium": "Memory", "sizeLimit": "20Gi"}}
    found = answer(asking(container("main"), volumes=[volume]), machine(memory="64Gi"), other)
    assert found["refusedBy"] == "extender"
    assert found["remedy"].endswith(
        "; see who takes it: kubectl get pods --all-namespaces --field-selector spec.nodeName=a"
    )
    alone = answer(asking(container("main"), volumes=[volume]), machine(memory="16Gi"))
    assert alone["refusedBy"] == "extender"
    assert "who takes it" not in alone["remedy"]


def test_a_node_that_would_be_too_small_without_them_is_not_theirs_to_mend() -> None:
    held = of_a_daemon_set("dcgm-x", memory="1Gi")
    found = answer(asking(container("main"), overhead={"memory": "30Gi"}), machine(), held)
    assert found["remedy"].endswith("; nothing smaller of it would do: it takes a larger node")


def test_of_a_volume_whose_content_is_of_unknown_size_a_smaller_one_may_do() -> None:
    mounts = [{"name": "models", "mountPath": "/models"}]
    serving = container("vllm", memory="4Gi") | {"volumeMounts": mounts}
    volume = {"name": "models", "emptyDir": {"medium": "Memory", "sizeLimit": "70Gi"}}
    found = answer(asking(serving, volumes=[volume]), machine())
    assert found["remedy"].endswith(
        "; only a smaller spec.volumes[0].emptyDir.sizeLimit may do, if what is written there fits "
        "into it (its size is not known); else it takes a larger node"
    )


def test_what_fits_once_others_have_left_is_told_where_nothing_fits_beside_them() -> None:
    gone = {"metadata": {"name": "held", "namespace": "n", "uid": "held"}}
    spec = {"nodeName": "a", "containers": [container("main", gpu="2")]}
    other = convert({**gone, "spec": spec, "status": {"phase": "Running"}}, Pod)
    found = answer(asking(container("main", memory="30Gi", gpu="1")), machine(), other)
    assert found["remedy"].endswith(
        "; once others have left, it would fit with resources.requests.memory: 24Gi"
    )


def test_a_node_without_huge_pages_is_told_how_it_gets_some() -> None:
    """https://kubernetes.io/docs/tasks/manage-hugepages/scheduling-hugepages/."""
    huge = {"hugepages-2Mi": "1Gi"}
    found = answer(
        asking(container("main", limits=huge, **huge)), machine(**{"hugepages-2Mi": "0"})
    )
    assert found["remedy"] == (
        "lacks 1.0 GiB hugepages-2Mi; the node has no hugepages-2Mi at all; have its kernel set "
        "some aside (hugepagesz=2M hugepages=512) and start its kubelet anew, or leave out "
        "hugepages-2Mi"
    )


def test_what_a_node_has_none_of_does_not_hide_what_else_could_be_smaller() -> None:
    asks = asking(container("main", limits={"rdma/hca": "1"}, memory="30Gi"))
    found = answer(asks, machine())
    assert "the node has no rdma/hca at all; see whether its device plugin runs" in found["remedy"]
    (way,) = found["remedy"].partition("there would be room with ")[2].split("; ")
    assert way == "resources.requests.memory: 24Gi"
    assert answer(pasted(asks, way), machine(**{"rdma/hca": "1"}))["fits"]


@pytest.mark.parametrize("name", ["hugepages-0Mi", "hugepages-", "hugepages-x", "strange"])
def test_a_resource_that_nobody_knows_is_looked_for_on_the_node(name: str) -> None:
    found = answer(asking(container("main", limits={name: "1"})), machine())
    assert found["remedy"].endswith(f"no {name} at all; see what it has: kubectl describe node a")


def test_a_node_of_other_slices_says_which_it_has() -> None:
    """A MIG profile is a resource of its own: the plugin runs, and offers another."""
    wanted, there = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-2g.20gb"
    asks = asking(container("main", limits={wanted: "1"}))
    found = answer(asks, machine(**{there: "3", GPU: "0"}))
    assert found["remedy"].endswith(
        f"its device plugin offers 3 {there}: ask for that, or have it offer {wanted}: kubectl "
        "describe node a"
    )
    none = answer(asks, machine(**{GPU: "0"}))
    assert "see whether its device plugin runs: " in none["remedy"]
