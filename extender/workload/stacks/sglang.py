"""SGLang: ``python3 -m sglang.launch_server --model-path X``, ``sglang serve``.

https://docs.sglang.ai/advanced_features/server_arguments.html and sglang/srt/server_args.py. The
image lmsysorg/sglang has no entrypoint of its own, so that its arguments are whole commands.
"""

from __future__ import annotations

from collections.abc import Iterator

from extender.workload.commands import Call, Word
from extender.workload.model import Role
from extender.workload.stacks.huggingface import hub_cache, is_offline
from extender.workload.stacks.listed import named_models
from extender.workload.stacks.view import ContainerView, Found

_PROGRAMS = (("sglang.launch_server",), ("sglang", "serve"), ("dynamo.sglang",))


def recognise(view: ContainerView) -> list[Found]:
    """Return the models of every SGLang server that the container starts."""
    return [
        found
        for program in _PROGRAMS
        for call in view.after(*program)
        for found in _server(view, call)
    ]


def _server(view: ContainerView, call: Call) -> Iterator[Found]:
    directory = call.option("--download-dir")
    model = call.option("--model-path", "--model")
    if model is not None:
        revision = call.option("--revision")
        yield _found(view, model, directory, revision=revision.text if revision else None)
    draft = call.option("--speculative-draft-model-path", "--speculative-draft-model")
    if draft is not None:
        revision = call.option("--speculative-draft-model-revision")
        yield _found(
            view, draft, directory, role=Role.DRAFT, revision=revision.text if revision else None
        )
    for adapter in named_models(call.options("--lora-paths"), "lora_path"):
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
        cache=hub_cache(view, word.text, directory=directory),
        offline=is_offline(view),
        unknown=word.unknown,
    )
