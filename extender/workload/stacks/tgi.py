"""Hugging Face's own servers: text-generation-inference and text-embeddings-inference.

https://huggingface.co/docs/text-generation-inference/reference/launcher. Every option is also an
environment variable; both images keep the hub's cache in ``/data`` (``HUGGINGFACE_HUB_CACHE`` in
their Dockerfiles).
"""

from __future__ import annotations

from collections.abc import Iterator

from extender.workload.commands import Call, Word
from extender.workload.model import Role
from extender.workload.stacks.huggingface import hub_cache, is_offline
from extender.workload.stacks.images import known_image
from extender.workload.stacks.listed import comma_separated, named_models
from extender.workload.stacks.view import ContainerView, Found

_PROGRAMS = ("text-generation-launcher", "text-embeddings-router", "tgi-entrypoint.sh")
_IMAGE = known_image(
    *("text-generation-inference", "text-embeddings-inference", "tgi", "tei"),
    *("huggingface-pytorch-tgi-inference", "huggingface-text-(?:generation|embeddings)-inference"),
)
_CACHE = "/data"


def recognise(view: ContainerView) -> list[Found]:
    """Return the models that the launcher serves."""
    calls = [call for program in _PROGRAMS for call in view.after(program)]
    if not calls:
        own = view.arguments()
        if not _IMAGE.fullmatch(view.image_name):
            return []
        calls = [own or Call(())]
    return [found for call in calls for found in _launcher(view, call)]


def _launcher(view: ContainerView, call: Call) -> Iterator[Found]:
    model = call.option("--model-id") or view.env("MODEL_ID")
    if model is None:
        return
    directory = call.option("--huggingface-hub-cache")
    revision = call.option("--revision") or view.env("REVISION")
    yield _found(view, model, directory, revision=revision.text if revision else None)
    adapters = comma_separated(call.option("--lora-adapters") or view.env("LORA_ADAPTERS"))
    for adapter in named_models(adapters, "path"):
        yield _found(view, adapter, directory, role=Role.ADAPTER)


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
        cache=hub_cache(view, word.text, directory=directory, default=_CACHE),
        offline=is_offline(view),
        unknown=word.unknown,
    )
