"""Which images are a stack's own: by the last part of their repository, exactly or a build of it.

An image that is not known gets no need: ``required`` would refuse nodes for a program that may
open nothing.
"""

from __future__ import annotations

from typing import Any

import pytest

from extender.kube.decode import convert
from extender.kube.objects import Pod
from extender.workload.model import Need
from extender.workload.references import read_workload

LOCAL = {
    "vllm": ["--model", "/models/x"],
    "text-generation-inference": ["--model-id", "/models/x"],
    "llama.cpp": ["--model", "/models/x"],
    "huggingfaceserver": ["--model_dir", "/models/x"],
}


def need(image: str, args: list[str]) -> Need:
    mount = {"name": "m", "mountPath": "/models", "readOnly": True}
    spec: dict[str, Any] = {
        "containers": [{"name": "c", "image": image, "args": args, "volumeMounts": [mount]}],
        "volumes": [{"name": "m", "hostPath": {"path": "/data", "type": "Directory"}}],
    }
    made = convert({"spec": spec}, Pod)
    (reference,) = read_workload(made.metadata, made.spec).references
    return reference.need


@pytest.mark.parametrize(
    ("image", "stack"),
    [
        ("vllm/vllm-openai:v0.11.0", "vllm"),
        ("vllm/vllm-openai", "vllm"),
        ("vllm", "vllm"),
        ("localhost:5000/mirror/vllm/vllm-openai@sha256:0", "vllm"),
        ("lmcache/vllm-openai:v0.3", "vllm"),
        ("vllm/vllm-openai-rocm:v0.14.0", "vllm"),
        ("vllm/vllm-tpu:nightly", "vllm"),
        ("rocm/vllm-dev:nightly", "vllm"),
        ("nvcr.io/nvidia/vllm:25.09-py3", "vllm"),
        ("registry.redhat.io/rhaiis/vllm-cuda-rhel9:3.2", "vllm"),
        ("public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo:v0.9.0", "vllm"),
        ("ghcr.io/huggingface/text-generation-inference:3.3.5", "text-generation-inference"),
        ("ghcr.io/huggingface/tgi-gaudi:2.3", "text-generation-inference"),
        ("ghcr.io/ggml-org/llama.cpp:server-cuda", "llama.cpp"),
        ("kserve/huggingfaceserver:v0.15.0", "huggingfaceserver"),
        ("team/huggingfaceserver-gpu:1", "huggingfaceserver"),
    ],
)
def test_an_engine_is_known_by_its_image(image: str, stack: str) -> None:
    assert need(image, LOCAL[stack]) is Need.REQUIRED


@pytest.mark.parametrize(
    ("image", "stack"),
    [
        ("acme/vllm-openai-exporter:1", "vllm"),
        ("acme/vllm-metrics:1", "vllm"),
        ("acme/vllm-openai-proxy", "vllm"),
        ("acme/not-vllm:1", "vllm"),
        ("vllm/router:1", "vllm"),
        ("acme/app:vllm", "vllm"),
        ("acme/text-generation-inference-exporter:1", "text-generation-inference"),
        ("text-generation-inference/proxy:1", "text-generation-inference"),
        ("acme/llama-cpp-server-proxy", "llama.cpp"),
        ("kserve/huggingfaceserver-exporter:1", "huggingfaceserver"),
    ],
)
def test_an_image_that_only_has_an_engine_in_its_name_is_none(image: str, stack: str) -> None:
    args = LOCAL[stack] if stack != "huggingfaceserver" else ["--model-dir", "/models/x"]
    assert need(image, args) is Need.UNKNOWN
