"""vLLM: ``vllm serve MODEL``, the OpenAI server module, and the images built on them.

https://docs.vllm.ai/en/latest/cli/serve.html and vllm/engine/arg_utils.py. ``--model`` wins over
the positional model where both are there. Engines that embed vLLM and keep its options (Dynamo,
AIBrix' and llm-d's images) are read here too.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from extender.workload.commands import Call, Word
from extender.workload.model import Role
from extender.workload.names import Kind, parse_name
from extender.workload.stacks.huggingface import hub_cache, is_offline
from extender.workload.stacks.images import known_image
from extender.workload.stacks.listed import json_name, named_models
from extender.workload.stacks.view import Cache, ContainerView, Found

_MODULES = (
    "vllm.entrypoints.openai.api_server",
    "vllm.entrypoints.api_server",
    "vllm.entrypoints.openai.run_batch",
    "dynamo.vllm",
)
_IMAGE = known_image("vllm", "pytorch-vllm")
_ENTRYPOINT_SERVES = re.compile(r"^vllm-openai")
_NO_MODEL = re.compile(
    r".*\.(?:sh|py)|python[\d.]*|(?:ba|da|z)?sh|sleep|tail|cat|ray|vllm|nvidia-smi"
)
_SWITCHES = frozenset(
    {
        "--async-scheduling",
        "--calculate-kv-scales",
        "--disable-custom-all-reduce",
        "--disable-frontend-multiprocessing",
        "--disable-log-requests",
        "--disable-log-stats",
        "--disable-sliding-window",
        "--enable-auto-tool-choice",
        "--enable-chunked-prefill",
        "--enable-expert-parallel",
        "--enable-lora",
        "--enable-prefix-caching",
        "--enable-prompt-embeds",
        "--enable-reasoning",
        "--enable-sleep-mode",
        "--enforce-eager",
        "--headless",
        "--no-enable-chunked-prefill",
        "--no-enable-log-requests",
        "--no-enable-prefix-caching",
        "--skip-tokenizer-init",
        "--trust-remote-code",
    }
)


def recognise(view: ContainerView) -> list[Found]:
    """Return the models of every vLLM engine that the container starts."""
    found: list[Found] = []
    for call, positional in _engines(view):
        found.extend(_engine(view, call, positional=positional))
    return found


def _engines(view: ContainerView) -> Iterator[tuple[Call, bool]]:
    """Yield the arguments of each engine, and whether a positional model may be among them."""
    seen = False
    for call in view.after("vllm", "serve"):
        seen = True
        yield call, True
    for module in _MODULES:
        for call in view.after(module):
            seen = True
            yield call, False
    own = view.arguments()
    if not seen and own is not None and _IMAGE.fullmatch(view.image_name):
        yield own, bool(_ENTRYPOINT_SERVES.search(view.image_name))


def _engine(view: ContainerView, call: Call, *, positional: bool) -> Iterator[Found]:
    model = call.option("--model", "--model-tag") or (_positional(call) if positional else None)
    directory = call.option("--download-dir")
    if model is None:
        yield from _told_elsewhere(call)
        return
    revision = call.option("--revision")
    yield _found(view, model, directory, revision=revision.text if revision else None)
    draft = json_name(call.option("--speculative-config", "-sc"), "model")
    draft = draft or call.option("--speculative-config.model", "-sc.model", "--speculative-model")
    if draft is not None and not _is_method(draft):
        yield _found(view, draft, directory, role=Role.DRAFT)
    for adapter in named_models(call.options("--lora-modules"), "path"):
        yield _found(view, adapter, directory, role=Role.ADAPTER)


def _positional(call: Call) -> Word | None:
    word = call.positional(_SWITCHES)
    if word is None or word.text is None:
        return word
    return None if _NO_MODEL.fullmatch(posixpath.basename(word.text)) else word


def _told_elsewhere(call: Call) -> Iterator[Found]:
    config = call.option("--config")
    if config is not None:
        yield Found(
            value=None,
            read_from=config.read_from,
            unknown=f"the file {config.text}, which the spec does not show, may name the model",
        )


def _is_method(word: Word) -> bool:
    """Tell the values of ``--speculative-model`` that are no model: ``[ngram]``."""
    return bool(word.text) and (word.text or "").startswith("[")


def _found(
    view: ContainerView,
    word: Word,
    directory: Word | None,
    *,
    role: Role = Role.MODEL,
    revision: str | None = None,
) -> Found:
    return Found(
        role=role,
        value=word.text,
        revision=revision,
        read_from=word.read_from,
        cache=_cache(view, word.text, directory),
        offline=is_offline(view),
        unknown=word.unknown,
    )


def _cache(view: ContainerView, value: str | None, directory: Word | None) -> Cache | None:
    if not view.flag("VLLM_USE_MODELSCOPE"):
        return hub_cache(view, value, directory=directory)
    name = parse_name(value) if value else None
    if name is None or name.kind is not Kind.HUB:
        return None
    home = view.env("MODELSCOPE_CACHE")
    if home is not None and home.text is None:
        return Cache("", name.text, home.read_from, home.unknown)
    base = home.text if home and home.text else f"{view.home}/.cache/modelscope/hub"
    return Cache(base, f"models/{name.text}", home.read_from if home else ())
