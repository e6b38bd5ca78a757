"""The serving stacks, one file each: a container -> the models that it asks for.

Every stack has ``recognise(view) -> list[Found]``, which answers with nothing where the container
is not its own. The first stack that answers speaks for the container.
"""

from __future__ import annotations

from collections.abc import Callable

from extender.workload.stacks import llamacpp, sglang, tgi, triton, vllm
from extender.workload.stacks.view import ContainerView, Found

_STACKS: tuple[Callable[[ContainerView], list[Found]], ...] = (
    vllm.recognise,
    sglang.recognise,
    tgi.recognise,
    llamacpp.recognise,
    triton.recognise,
)


def recognise(view: ContainerView) -> list[Found]:
    """Return what a container asks for, in the words of the first stack that knows it."""
    for stack in _STACKS:
        found = stack(view)
        if found:
            return found
    return []
