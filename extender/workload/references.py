"""Any pod spec -> the models that it asks for, with no annotation needed."""

from __future__ import annotations

from collections.abc import Sequence

from extender.kube.objects import ObjectMeta, PodSpec
from extender.workload.annotations import declared_model, with_declared_need
from extender.workload.budget import MOST_MODELS
from extender.workload.model import (
    MODEL_ANNOTATION,
    NEED_ANNOTATION,
    ModelReference,
    Role,
    Warning,  # noqa: A004
    Workload,
)
from extender.workload.resolve import resolve
from extender.workload.stacks import recognise
from extender.workload.stacks.view import PodView

SPEC_TOO_LONG = "SpecTooLong"
"""The reason of the warning that a part of the spec was not read."""

_SAY_WHICH = f"a model that they ask for is not known; name it by annotation {MODEL_ANNOTATION}"
_TOO_MANY = (
    f"of {{found}} models that it asks for the first {MOST_MODELS} are looked for; whether a node "
    "has the others is not known"
)
_ORDER = {Role.MODEL: 0, Role.DRAFT: 1, Role.ADAPTER: 2}


def read_workload(metadata: ObjectMeta, spec: PodSpec) -> Workload:
    """Return what a pod (or a pod template) asks for; the serving model comes first.

    An annotated model takes the place of the serving model that the spec shows.
    """
    pod = PodView(metadata, spec)
    sidecars = [view for view in pod.before if view.container.restart_policy == "Always"]
    declared = declared_model(metadata.annotations.get(MODEL_ANNOTATION), pod.main)
    if declared.nothing:
        return Workload()
    found = [(view, model) for view in (*pod.main, *sidecars) for model in recognise(view)]
    if declared.view is not None and declared.found is not None:
        others = [(view, model) for view, model in found if model.role is not Role.MODEL]
        found = [(declared.view, declared.found), *others]
    recognised = frozenset(view.field for view, _ in found)
    first = sorted(found, key=lambda one: _ORDER[one[1].role])[:MOST_MODELS]
    references, warnings = with_declared_need(
        metadata.annotations.get(NEED_ANNOTATION),
        [resolve(model, view, recognised) for view, model in first],
    )
    unread = [
        Warning(SPEC_TOO_LONG, f"{part}: {_SAY_WHICH}")
        for part in (pod.unread() if declared.found is None else ())
    ]
    if len(found) > len(first):
        unread.append(Warning("SpecTooLong", _TOO_MANY.format(found=len(found))))
    return Workload(
        references=_ordered(references), warnings=(*declared.warnings, *warnings, *unread)
    )


def _ordered(references: Sequence[ModelReference]) -> tuple[ModelReference, ...]:
    unique = dict.fromkeys(references)
    return tuple(sorted(unique, key=lambda reference: _ORDER[reference.role]))
