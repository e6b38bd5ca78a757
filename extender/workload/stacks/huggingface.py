"""The Hugging Face cache: where the hub's client keeps a repository on disk.

``<cache>/models--org--name/snapshots/<revision>``, with the cache directory chosen as in
huggingface_hub's ``constants.py``: ``HF_HUB_CACHE``, else ``HUGGINGFACE_HUB_CACHE``, else
``$HF_HOME/hub``, where ``HF_HOME`` is ``$XDG_CACHE_HOME/huggingface``, else
``~/.cache/huggingface``.
"""

from __future__ import annotations

import posixpath

from extender.workload.commands import Word
from extender.workload.names import Kind, parse_name, repository_directory
from extender.workload.stacks.view import Cache, ContainerView

_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_CACHE_MOUNTS = ("/.cache/huggingface/hub", "/.cache/huggingface", "/.cache")


def is_offline(view: ContainerView) -> bool:
    """Tell whether the hub's client may not use the network."""
    return view.flag(*_OFFLINE)


def hub_cache(
    view: ContainerView,
    value: str | None,
    *,
    directory: Word | None = None,
    default: str | None = None,
    transformers: bool = False,
) -> Cache | None:
    """Return where a hub id's files go; None for a value that is no hub id.

    ``directory`` is a command line's cache directory (``--download-dir``) and comes first;
    ``default`` is the image's own setting; ``transformers`` is true where the server loads through
    that library, which has a variable of its own.
    """
    name = parse_name(value) if value else None
    if name is None or name.kind is not Kind.HUB:
        return None
    below = repository_directory(name.text)
    chosen = directory or _chosen(view, transformers=transformers)
    if chosen is None:
        return Cache(default or _default(view), below)
    if chosen.text is None:
        return Cache("", below, chosen.read_from, chosen.unknown)
    return Cache(chosen.text, below, chosen.read_from)


def _chosen(view: ContainerView, *, transformers: bool) -> Word | None:
    names = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
    direct = view.env(*(("TRANSFORMERS_CACHE", *names) if transformers else names))
    if direct is not None:
        return direct
    for name, below in (("HF_HOME", "hub"), ("XDG_CACHE_HOME", "huggingface/hub")):
        word = view.env(name)
        if word is not None:
            text = None if word.text is None else posixpath.join(word.text, below)
            return Word(text, word.read_from, word.unknown)
    return None


def _default(view: ContainerView) -> str:
    """Return the default cache; an image that runs as another user is told by what it mounts."""
    own = posixpath.join(view.home, ".cache/huggingface/hub")
    if view.env("HOME") is None and view.mounted_above(own) is None:
        for ending in _CACHE_MOUNTS:
            mount = view.mounted(ending)
            if mount is not None:
                return posixpath.join(mount.removesuffix(ending), ".cache/huggingface/hub")
    return own
