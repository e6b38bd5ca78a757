"""What the author of a pod says outright: ``modelcache.dev/model`` and ``modelcache.dev/need``."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from extender.workload.model import (
    MODEL_ANNOTATION,
    NEED_ANNOTATION,
    ModelReference,
    Need,
    Role,
    Warning,  # noqa: A004
)
from extender.workload.names import Kind, parse_name, without_credentials
from extender.workload.stacks.huggingface import hub_cache, is_offline
from extender.workload.stacks.view import ContainerView, Found

NOTHING = "none"
_MODEL_PLACE = f"metadata.annotations[{MODEL_ANNOTATION}]"
_NEEDS = {need.value: need for need in (Need.REQUIRED, Need.PREFERRED, Need.IGNORE)}


class Declared(msgspec.Struct, frozen=True):
    """The annotated model with the container that opens it; both None without a usable one."""

    view: ContainerView | None = None
    found: Found | None = None
    nothing: bool = False
    """The author says that the pod asks for no model."""
    warnings: tuple[Warning, ...] = ()


def declared_model(value: str | None, views: Sequence[ContainerView]) -> Declared:
    """Read the model annotation; a value that names no model is a warning and no more."""
    text = (value or "").strip()
    if value is None or not views:
        return Declared()
    if text == NOTHING:
        return Declared(nothing=True)
    name = parse_name(text)
    if name.kind is Kind.PATH:
        view = next((view for view in views if _mounts(view, name.text)), views[0])
        return Declared(view, Found(value=name.text, read_from=(_MODEL_PLACE,)))
    if name.kind is Kind.HUB and text.startswith(("hf://", "huggingface://")):
        view = views[0]
        cache = hub_cache(view, name.text)
        found = Found(
            value=name.text,
            revision=name.revision,
            read_from=(_MODEL_PLACE,),
            cache=cache,
            offline=is_offline(view),
        )
        return Declared(view, found)
    said = without_credentials(text)[:80]
    message = (
        f"annotation {MODEL_ANNOTATION} is {said!r}, which is neither a path in the container "
        f"(/models/x), nor hf://org/name[@revision], nor {NOTHING}; it is not used"
    )
    return Declared(warnings=(Warning("BadAnnotation", message),))


def with_declared_need(
    value: str | None, references: Sequence[ModelReference]
) -> tuple[list[ModelReference], tuple[Warning, ...]]:
    """Put the annotated need on the serving models; adapters and drafts keep theirs."""
    if value is None:
        return list(references), ()
    need = _NEEDS.get(value.strip())
    if need is None:
        message = (
            f"annotation {NEED_ANNOTATION} is {value[:80]!r}; choose one of "
            f"{', '.join(_NEEDS)}; it is not used"
        )
        return list(references), (Warning("BadAnnotation", message),)
    return [
        msgspec.structs.replace(reference, need=need)
        if reference.role is Role.MODEL or need is Need.IGNORE
        else reference
        for reference in references
    ], ()


def _mounts(view: ContainerView, path: str) -> bool:
    return view.mounts.locate(path) is not None
