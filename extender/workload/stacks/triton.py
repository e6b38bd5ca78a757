"""NVIDIA's servers: Triton's model repository, TensorRT-LLM's ``trtllm-serve``, NIM's cache.

https://docs.nvidia.com/deeplearning/triton-inference-server (user guide, model repository),
https://nvidia.github.io/TensorRT-LLM/commands/trtllm-serve/trtllm-serve.html,
https://docs.nvidia.com/nim/large-language-models/latest/configuration.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from extender.workload.commands import Call, Word
from extender.workload.stacks.huggingface import hub_cache, is_offline
from extender.workload.stacks.view import Cache, ContainerView, Found

_NIM = re.compile(r"(?:^|/)nim/|^nvcr\.io/nim/")
_NIM_CACHE = "/opt/nim/.cache"
_SERVE_SWITCHES = frozenset({"--trust-remote-code", "--trust_remote_code"})


def recognise(view: ContainerView) -> list[Found]:
    """Return the models of Triton, TensorRT-LLM and NIM servers."""
    return [*_triton(view), *_tensorrt_llm(view), *_nim(view)]


def _triton(view: ContainerView) -> Iterator[Found]:
    for call in view.after("tritonserver"):
        for place in call.options("--model-repository", "--model-store"):
            yield Found(value=place.text, read_from=place.read_from, unknown=place.unknown)


def _tensorrt_llm(view: ContainerView) -> Iterator[Found]:
    for call in view.after("trtllm-serve"):
        words = call.words
        named = Call(words[1:]) if words and words[0].text == "serve" else call
        model = named.positional(_SERVE_SWITCHES)
        if model is not None:
            yield Found(
                value=model.text,
                read_from=model.read_from,
                cache=hub_cache(view, model.text),
                offline=is_offline(view),
                unknown=model.unknown,
            )


def _nim(view: ContainerView) -> Iterator[Found]:
    """Read a NIM: a model of the image's own, or the one that a model-free image is told."""
    if not _NIM.search(view.container.image):
        return
    place = view.env("NIM_CACHE_PATH") or Word(_NIM_CACHE)
    name = view.env("NIM_MODEL_PATH", "NIM_MODEL_NAME")
    told = name is not None and (name.text is None or "/" in name.text)
    if name is not None and told:
        where, read_from, unknown = name.text, name.read_from, name.unknown
    else:
        where, read_from, unknown = view.repository.removeprefix("nim/"), place.read_from, ""
    yield Found(
        value=where,
        read_from=read_from,
        cache=Cache(place.text or "", "", place.read_from, place.unknown),
        offline=is_offline(view),
        unknown=unknown,
    )
