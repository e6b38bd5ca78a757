"""What is said of memory-backed volumes that count for nothing, or are too small."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from extender.cluster.state import ClusterState
from extender.explain.document import explain
from extender.explain.volumes import volume_warnings
from extender.verbs.context import Context
from tests.builders import node, pod
from tests.doctor.building import filled


def warned(volume: dict[str, Any], *, mount: str = "/ram", limit: str = "", model: str = "") -> str:
    container: dict[str, Any] = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.11.0",
        "resources": {"limits": {"memory": limit}, "requests": {"memory": "1Gi"}} if limit else {},
        "volumeMounts": [{"name": "ram", "mountPath": mount}],
    }
    if model:
        container["args"] = ["--model", f"{mount}/{model}"]
    volumes = [{"name": "ram", "emptyDir": {"medium": "Memory", **volume}}]
    state = ClusterState(clock=lambda: 0.0)
    state.upsert(node("a"))
    asks = pod("asks", spec={"containers": [container], "volumes": volumes})
    found = explain(asks, Context(state=state))["warnings"]
    return " ".join(warning["reason"] for warning in found)


@pytest.mark.parametrize(
    ("reason", "given"),
    [
        ("UnsizedMemoryVolume", {"volume": {}}),
        ("SharedMemoryVolume", {"volume": {"sizeLimit": "16Gi"}, "mount": "/dev/shm"}),
        ("OversizedMemoryVolume", {"volume": {"sizeLimit": "20Gi"}, "limit": "4Gi"}),
        ("VolumeTooSmall", {"volume": {"sizeLimit": "8Gi"}, "model": "llama-3.1-8b-instruct"}),
    ],
)
def test_each_is_named(reason: str, given: dict[str, Any]) -> None:
    assert reason in warned(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"volume": {"sizeLimit": "4Gi"}, "limit": "8Gi"},
        {"volume": {"sizeLimit": "20Gi"}, "model": "llama-3.1-8b-instruct"},
    ],
)
def test_a_volume_that_is_well_sized_is_not(given: dict[str, Any]) -> None:
    assert "MemoryVolume" not in warned(**given)
    assert "VolumeTooSmall" not in warned(**given)


# -- remedies ------------------------------------------------------------------------------------

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
"""16 GB by its name, and more than that on the disk."""


def served(
    size: str, *, request: str = "", limit: str = "", fill: str = "", whole: str = ""
) -> dict[str, Any]:
    """A pod that fills a volume of such a size with LLAMA; limits of server, filler and pod."""
    mount = {"name": "ram", "mountPath": "/models"}
    ram = {"medium": "Memory"} | ({"sizeLimit": size} if size else {})
    given = {"requests": {"memory": request}} if request else {}

    def limited(to: str) -> dict[str, Any]:
        return given | ({"limits": {"memory": to}} if to else {})

    script = f"hf download {LLAMA} --local-dir /models/m"
    return {
        "volumes": [
            {"name": "other", "emptyDir": {}},
            {"name": "ram", "emptyDir": ram},
        ],
        "initContainers": [
            {"name": "first"},
            {"name": "fill", "image": "python:3.12-slim", "command": ["sh", "-c", script],
             "resources": limited(fill), "volumeMounts": [mount]},
        ],
        "containers": [
            {"name": "vllm", "image": "vllm/vllm-openai:v0.11.0", "args": ["--model", "/models/m"],
             "resources": limited(limit), "volumeMounts": [mount | {"readOnly": True}]},
        ],
        **({"resources": {"limits": {"memory": whole}}} if whole else {}),
    }  # fmt: skip


def told(spec: dict[str, Any]) -> dict[str, str]:
    """Return what is to be done about a pod, by what is wrong with it."""
    asks = pod("asks", spec=spec)
    request = Context(state=ClusterState(clock=lambda: 0.0)).request(asks)
    return {one.reason: one.remedy for one in volume_warnings(request, asks)}


def mended(spec: Any, remedy: str) -> None:
    """Put each figure of a remedy where it says."""
    for path, value in re.findall(r"spec\.([\w.\[\]]+): (\w+)", remedy):
        place, keys = spec, re.findall(r"\w+", path)
        for key in keys[:-1]:
            place = place[int(key)] if key.isdigit() else place.setdefault(key, {})
        place[keys[-1]] = value


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "no size": ("UnsizedMemoryVolume", served(""), "spec.volumes[1].emptyDir.sizeLimit: 17Gi"),
    "a small one": ("VolumeTooSmall", served("8Gi"), "spec.volumes[1].emptyDir.sizeLimit: 17Gi"),
    "a limit that the model exceeds": (
        "ModelExceedsLimit",
        served("20Gi", request="1Gi", limit="12Gi", fill="8Gi") | {"initContainers": [
            served("20Gi", request="1Gi", fill="8Gi")["initContainers"][1]
        ]},
        "spec.initContainers[0].resources.limits.memory: 21Gi and "
        "spec.containers[0].resources.limits.memory: 21Gi",
    ),
    "the filler's own limit": (
        "ModelExceedsLimit", served("20Gi", request="2Gi", fill="4Gi"),
        "spec.initContainers[1].resources.limits.memory: 22Gi",
    ),
    "the pod's own limit": (
        "ModelExceedsLimit", served("20Gi", request="2Gi", whole="12Gi"),
        "spec.resources.limits.memory: 22Gi",
    ),
    "the pod's own limit, and the filler's": (
        "ModelExceedsLimit", served("20Gi", request="2Gi", whole="12Gi", fill="4Gi"),
        "spec.resources.limits.memory: 22Gi and "
        "spec.initContainers[1].resources.limits.memory: 22Gi",
    ),
    "a size beyond the limit": (
        "OversizedMemoryVolume", served("32Gi", request="2Gi", whole="24Gi"),
        "spec.resources.limits.memory: 34Gi, or spec.volumes[1].emptyDir.sizeLimit: 22Gi",
    ),
    "a size beyond the limit, that the model needs": (
        "OversizedMemoryVolume", served("20Gi", request="2Gi", whole="18Gi"),
        "spec.resources.limits.memory: 22Gi",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_the_figures_of_a_remedy_are_to_be_pasted_and_mend_what_is_wrong(case: str) -> None:
    reason, spec, figures = WRONG[case]
    remedy = told(spec)[reason]
    assert remedy == f"set {figures}"
    for way in remedy.split(", or "):
        changed = msgspec.json.decode(msgspec.json.encode(spec))
        mended(changed, way)
        assert changed != spec
        assert told(changed) == {}


def test_without_the_pod_itself_a_remedy_has_the_figures_in_words() -> None:
    """As in an event: of a pod in the cluster its fields are not kept."""
    asks = pod("asks", spec=served("8Gi", request="2Gi", whole="12Gi"))
    request = Context(state=ClusterState(clock=lambda: 0.0)).request(asks)
    assert {one.reason: one.remedy for one in volume_warnings(request)} == {
        "ModelExceedsLimit": "set a memory limit of 19Gi for the pod as a whole",
        "VolumeTooSmall": "set emptyDir.sizeLimit: 17Gi",
    }


def test_a_size_that_is_stated_is_not_guessed() -> None:
    asks = filled(model="org/unnamed", size="8Gi")
    request = Context(state=ClusterState(clock=lambda: 0.0)).request(asks)
    (reference,) = request.workload.references
    stated = msgspec.structs.replace(reference, bytes=9 * 2**30)
    workload = msgspec.structs.replace(request.workload, references=(stated,))
    (one,) = volume_warnings(msgspec.structs.replace(request, workload=workload), asks)
    assert one.remedy == "set spec.volumes[0].emptyDir.sizeLimit: 9Gi"
