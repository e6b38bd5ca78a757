"""Servers that are not known: what their flags look like, and no more than a guess.

Web apps have a ``--model`` too, so a value counts only where it leads to a volume that may hold
weights: an absolute path in it, or a hub id whose cache lies there. A guess never says what the
pod needs (``sure=False``): it makes no node unfit, it only lets a warm one be told.
"""

from __future__ import annotations

import posixpath

from extender.workload.commands import Word
from extender.workload.names import Kind, parse_name
from extender.workload.stacks.huggingface import hub_cache, is_offline
from extender.workload.stacks.view import ContainerView, Found

_FLAGS = (
    "--model --model-path --model-id --model-dir --model-name-or-path --pretrained-model-path "
    "--checkpoint-path --model-repository --model-store"
).split()
_VARIABLES = "MODEL_PATH MODEL_ID MODEL_DIR MODEL_NAME_OR_PATH HF_MODEL_ID".split()


def recognise(view: ContainerView) -> list[Found]:
    """Return the first thing that looks like a model on a volume."""
    for word in _words(view):
        found = _guess(view, word)
        if found is not None:
            return [found]
    return []


def _words(view: ContainerView) -> list[Word]:
    flags = [
        word
        for call in view.command.calls
        for flag in _FLAGS
        for word in (call.option(flag),)
        if word is not None
    ]
    variables = [word for name in _VARIABLES for word in (view.env(name),) if word is not None]
    return [*flags, *variables]


def _guess(view: ContainerView, word: Word) -> Found | None:
    if not word.text:
        return None
    name = parse_name(word.text, view.home)
    if name.kind is Kind.PATH:
        on_volume = _may_hold_weights(view, name.text)
        return Found(value=word.text, read_from=word.read_from, sure=False) if on_volume else None
    if name.kind is not Kind.HUB or "/" not in name.text:
        return None
    cache = hub_cache(view, word.text)
    if cache is None or not _may_hold_weights(view, posixpath.join(cache.directory, cache.below)):
        return None
    return Found(
        value=word.text,
        read_from=word.read_from,
        cache=cache,
        offline=is_offline(view),
        sure=False,
    )


def _may_hold_weights(view: ContainerView, path: str) -> bool:
    if not path.startswith("/"):
        return False
    place = view.mounts.locate(path)
    if place is None:
        return False
    volume = place.volume
    sources = (volume.host_path, volume.persistent_volume_claim, volume.empty_dir, volume.image)
    return volume.ephemeral is not None or any(source is not None for source in sources)
