"""Pods that serve a model as part of a whole, where only the rest of it names the model.

Workers of a LeaderWorkerSet that only join the leader's Ray cluster
(https://lws.sigs.k8s.io/docs/examples/vllm/ and vLLM's ``multi-node-serving.sh``) get the model's
name over the wire; AIBrix labels pods with the name that its gateway serves, whatever the container
runs (https://aibrix.readthedocs.io/latest/getting_started/quickstart.html). What is known is that
there is a model, and that the author has to say which one.
"""

from __future__ import annotations

import re

from extender.kube.objects import Container
from extender.workload.commands import Call
from extender.workload.stacks.view import ContainerView, Found

AIBRIX_LABEL = "model.aibrix.ai/name"
_AIBRIX_SIDECAR = re.compile(r"(?:^|/)aibrix/runtime$")
_GROUP_PREFIX = "leaderworkerset.sigs.k8s.io/"
_GROUP_VARIABLE = re.compile(r"\bLWS_(?:LEADER_ADDRESS|GROUP_SIZE|WORKER_INDEX)\b")
_ENGINE_IMAGE = re.compile(r"vllm|sglang|huggingfaceserver|tensorrt-?llm")
_SCRIPTS = ("multi-node-serving.sh", "ray_init.sh")


def recognise(view: ContainerView) -> list[Found]:
    """Return one model that cannot be named, for a member of a group."""
    why = _joins_a_leader(view) or _is_labelled(view)
    return [Found(value=None, unknown=why, read_from=_place(view))] if why else []


def is_mark(name: str) -> bool:
    """Tell a label or an annotation that a member of a LeaderWorkerSet has."""
    return name.startswith(_GROUP_PREFIX)


def _joins_a_leader(view: ContainerView) -> str:
    script = any(
        call.words and call.words[0].text == "worker"
        for name in _SCRIPTS
        for call in view.after(name)
    )
    joins = any(_has_address(call) for call in view.after("ray", "start"))
    if script or (joins and _serves_in_a_group(view)):
        return "it joins a group whose leader names the model, which this pod's spec does not show"
    return ""


def _has_address(call: Call) -> bool:
    """Tell ``ray start --address=$LEADER:6379``, whose address a script may hide."""
    hidden = any(word.text is None for word in call.words)
    return not call.has("--head") and (call.has("--address") or hidden)


def _serves_in_a_group(view: ContainerView) -> bool:
    """Tell a serving group's worker from one of a Ray cluster that may do anything."""
    marks = (*view.metadata.labels, *view.metadata.annotations)
    texts = (*view.container.command, *view.container.args)
    return (
        any(map(is_mark, marks))
        or any(_GROUP_VARIABLE.search(text) for text in texts)
        or _ENGINE_IMAGE.search(view.repository) is not None
    )


def _is_labelled(view: ContainerView) -> str:
    served = view.metadata.labels.get(AIBRIX_LABEL)
    if not served or view.container is not _likely_engine(view):
        return ""
    return f"label {AIBRIX_LABEL} says that it serves {served[:80]!r}, and nothing says from where"


def _likely_engine(view: ContainerView) -> Container | None:
    """Return the container that the label is about: with an accelerator, an engine's image."""
    candidates = [other for other in view.pod.main if not _is_sidecar(other)]
    best = max(candidates, key=_looks_like_an_engine, default=None)
    return best.container if best is not None else None


def _looks_like_an_engine(view: ContainerView) -> tuple[bool, bool]:
    resources = view.container.resources
    accelerated = any("/" in name for name in (*resources.requests, *resources.limits))
    return accelerated, _ENGINE_IMAGE.search(view.repository) is not None


def _is_sidecar(view: ContainerView) -> bool:
    return _AIBRIX_SIDECAR.search(view.repository) is not None


def _place(view: ContainerView) -> tuple[str, ...]:
    part = "command" if view.container.command else "args"
    return (f"{view.field}.{part}",)
