"""KServe: what its webhook is told to put at ``/mnt/models``, and its own model servers.

The source is in the annotation ``internal.serving.kserve.io/storage-initializer-sourceuri`` (or in
``STORAGE_URI`` of a custom predictor); the webhook turns it into an init container, a claim's
mount, an OCI sidecar or an image volume, all at ``/mnt/models``. A Deployment's template shows the
source alone, a pod both. https://kserve.github.io/website/docs/model-serving/storage/overview and
kserve/pkg/webhook/admission/pod/storage_initializer_injector.go
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from extender.workload.commands import Call, Word
from extender.workload.stacks.huggingface import hub_cache, is_offline
from extender.workload.stacks.images import known_image
from extender.workload.stacks.view import ContainerView, Found
from extender.workload.volumes import is_within, normal

SOURCE_ANNOTATION = "internal.serving.kserve.io/storage-initializer-sourceuri"
MODELS = "/mnt/models"
CONTAINER = "kserve-container"
_HUGGINGFACE_IMAGE = known_image("huggingfaceserver")
_HUGGINGFACE_MODULE = "huggingfaceserver"
_HUGGINGFACE_CACHE = "/tmp/huggingface/hub"  # noqa: S108 - HF_HOME of the image's Dockerfile


def recognise(view: ContainerView) -> list[Found]:
    """Return what KServe's own servers open, or what is put before any other predictor."""
    found = [model for call in _huggingface(view) for model in _server(view, call)]
    if found:
        return found
    return _predictor(view)


def with_source(view: ContainerView, found: list[Found]) -> list[Found]:
    """Put the source in the place of ``/mnt/models`` where the pod does not show that mount yet."""
    source = _source(view)
    if view.mounted_above(MODELS) is not None:
        told = source.read_from if source is not None else _mount(view)
        return [_told_by(model, told) if _is_put_there(model) else model for model in found]
    if source is None:
        return found
    return [_from_source(model, source) if _is_put_there(model) else model for model in found]


def _is_put_there(model: Found) -> bool:
    return is_within(normal(model.value or "/"), MODELS)


def _told_by(model: Found, place: tuple[str, ...]) -> Found:
    """Name what says that a model is there, where it is only known by KServe's contract."""
    return model if model.read_from else msgspec.structs.replace(model, read_from=place)


def _from_source(model: Found, source: Word) -> Found:
    return msgspec.structs.replace(
        model,
        value=model.value if source.text is not None else None,
        path=source.text,
        read_from=(*model.read_from, *source.read_from),
        unknown=source.unknown,
    )


def _predictor(view: ContainerView) -> list[Found]:
    """Return the models' directory of a predictor whose server is not known.

    The container's name and the mount (or the source) say that it is one; KServe's contract is that
    its server opens nothing else.
    """
    if view.container.name != CONTAINER:
        return []
    place = view.mounted_above(MODELS)
    source = _source(view)
    if place is None and source is None:
        return []
    where = source.read_from if source is not None else ()
    return [Found(value=MODELS, read_from=where)]


def _mount(view: ContainerView) -> tuple[str, ...]:
    """Return the field of the mount at the models' directory, where the pod shows it."""
    place = view.mounted_above(MODELS)
    for index, mount in enumerate(view.container.volume_mounts):
        if place is not None and normal(mount.mount_path) == place:
            return (f"{view.field}.volumeMounts[{index}].mountPath",)
    return ()


def _source(view: ContainerView) -> Word | None:
    uri = view.metadata.annotations.get(SOURCE_ANNOTATION)
    if uri:
        return Word(_plain(uri), (f"metadata.annotations[{SOURCE_ANNOTATION}]",))
    return view.env("STORAGE_URI")


def _plain(uri: str) -> str:
    """Return ``oci+native://image`` and its like as ``oci://image``: the same bytes."""
    return re.sub(r"^oci\+\w+://", "oci://", uri)


def _huggingface(view: ContainerView) -> Iterator[Call]:
    calls = list(view.after(_HUGGINGFACE_MODULE))
    own = view.arguments()
    if not calls and own is not None and _HUGGINGFACE_IMAGE.fullmatch(view.image_name):
        calls = [own]
    yield from calls


def _server(view: ContainerView, call: Call) -> Iterator[Found]:
    """Read the Hugging Face server: ``--model_id`` of the hub comes before ``--model_dir``."""
    hub = call.option("--model-id")
    if hub is not None:
        revision = call.option("--model-revision")
        yield Found(
            value=hub.text,
            revision=revision.text if revision else None,
            read_from=hub.read_from,
            cache=hub_cache(view, hub.text, default=_HUGGINGFACE_CACHE),
            offline=is_offline(view),
            unknown=hub.unknown,
        )
        return
    place = call.option("--model-dir")
    if place is not None:
        yield Found(value=place.text, read_from=place.read_from, unknown=place.unknown)
    else:  # the default is only sure to be meant where something is put there
        yield Found(value=MODELS, sure=view.mounted_above(MODELS) is not None)
