"""llama.cpp: ``llama-server -m FILE`` or ``-hf ORG/REPO[:QUANT]``, and the same as variables.

https://github.com/ggml-org/llama.cpp/tree/master/tools/server. Its own cache of fetched files has a
layout that names no repository, so where ``-hf`` is used only the hub id is told.
"""

from __future__ import annotations

from collections.abc import Iterator

from extender.workload.commands import Call, Word
from extender.workload.model import Role
from extender.workload.stacks.images import known_image
from extender.workload.stacks.view import ContainerView, Found

_IMAGE = known_image(r"llama\.cpp", "llama-cpp-server")
_PROGRAM = "llama-server"


def recognise(view: ContainerView) -> list[Found]:
    """Return the models that llama-server opens."""
    calls = list(view.after(_PROGRAM))
    own = view.arguments()
    if not calls and own is not None and _IMAGE.fullmatch(view.image_name):
        calls = [own]
    return [found for call in calls for found in _server(view, call)]


def _server(view: ContainerView, call: Call) -> Iterator[Found]:
    file = call.option("-m", "--model") or view.env("LLAMA_ARG_MODEL")
    hub = call.option("-hf", "-hfr", "--hf-repo") or view.env("LLAMA_ARG_HF_REPO")
    if file is not None:
        yield _file(file)
    elif hub is not None:
        yield Found(value=hub.text, read_from=hub.read_from, unknown=hub.unknown)
    draft = call.option("-md", "--model-draft") or view.env("LLAMA_ARG_MODEL_DRAFT")
    if draft is not None:
        yield _file(draft, role=Role.DRAFT)
    for adapter in call.options("--lora"):
        yield _file(adapter, role=Role.ADAPTER)


def _file(word: Word, *, role: Role = Role.MODEL) -> Found:
    path = word.text if word.text is None or "/" in word.text else f"./{word.text}"
    return Found(
        role=role, value=word.text, path=path, read_from=word.read_from, unknown=word.unknown
    )
