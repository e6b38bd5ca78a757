"""Known images by the last part of their repository: a stack's own name, exactly or with a suffix.

``team/vllm-openai-exporter`` is not vLLM. Copies keep the name (``mirror/vllm/vllm-openai``), and
builds add what they are built for (``vllm-openai-rocm``, ``vllm-cuda-rhel9``).
"""

from __future__ import annotations

import re

_BUILDS = (
    "openai|server|serve|serving|cpu|gpu|cuda|tpu|xpu|hpu|npu|gaudi|habana|neuron|neuronx|inf2|"
    "rocm|ipex|openvino|intel|amd|spyre|ascend|dev|base|env|release|repo|nightly|runtime|latest|"
    r"slim|full|arm64|aarch64|amd64|x86|64|ubi\d*|rhel\d*|ubuntu\d*|cu\d+|cuda\d+|py\d+|v?\d+"
)


def known_image(*names: str) -> re.Pattern[str]:
    """Return a pattern for ``ContainerView.image_name``: these names, each with builds behind."""
    return re.compile(rf"(?:{'|'.join(names)})(?:[-_.](?:{_BUILDS}))*")
