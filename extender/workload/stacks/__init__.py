"""The serving stacks, one file each: a container -> the models that it asks for.

Every stack has ``recognise(view) -> list[Found]``, which answers with nothing where the container
is not its own. The first stack that answers speaks for the container: engines come first, then the
platforms that start engines and tell them where the model is, then guesses.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from extender.workload.names import without_credentials
from extender.workload.stacks import (
    generic,
    groups,
    kserve,
    llamacpp,
    ollama,
    ome,
    sglang,
    tgi,
    triton,
    vllm,
)
from extender.workload.stacks.alternatives import with_alternatives
from extender.workload.stacks.view import ContainerView, Found

_STACKS: tuple[Callable[[ContainerView], list[Found]], ...] = (
    vllm.recognise,
    sglang.recognise,
    tgi.recognise,
    llamacpp.recognise,
    triton.recognise,
    ollama.recognise,
    ome.recognise,
    kserve.recognise,
    groups.recognise,
    generic.recognise,
)

_CUT = "the container's scripts and arguments take too long to be read to their end"


def recognise(view: ContainerView) -> list[Found]:
    """Return what a container asks for, in the words of the first stack that knows it."""
    for stack in _STACKS:
        found = stack(view)
        if found:
            found = kserve.with_source(view, with_alternatives(view, found, stack))
            if view.budget.exhausted:  # what was not read may serve something else
                found = [msgspec.structs.replace(m, without=m.without or _CUT) for m in found]
            return [_without_credentials(model) for model in found]
    return []


def _without_credentials(found: Found) -> Found:
    value, path = found.value, found.path
    return msgspec.structs.replace(
        found,
        value=None if value is None else without_credentials(value),
        path=None if path is None else without_credentials(path),
    )
