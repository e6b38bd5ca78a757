"""Ollama: ``ollama serve`` with the models that are pulled beside it or before it.

https://docs.ollama.com/faq (where models are stored, ``OLLAMA_MODELS``) and the image's Dockerfile:
the entrypoint is ``/bin/ollama``, it runs as root, models lie in ``~/.ollama/models``. All models
share that one directory of manifests and blobs, so the whole of it is a model's place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from extender.workload.commands import Call, Word
from extender.workload.stacks.images import known_image
from extender.workload.stacks.view import Cache, ContainerView, Found

_IMAGE = known_image("ollama")
_PROGRAM = "ollama"
_PULLS = frozenset({"pull", "run"})
_SWITCHES = frozenset({"--insecure", "--verbose", "--nowordwrap"})


def recognise(view: ContainerView) -> list[Found]:
    """Return the models that an Ollama server is made to hold."""
    calls = list(_calls(view))
    if not calls:
        return []
    pulled = [*_pulled(calls), *_pulled_before(view)]
    if not pulled:
        return [_whatever_is_asked_for(view)]
    return [
        Found(
            value=word.text,
            path=_hub_name(word.text),
            read_from=word.read_from,
            cache=_cache(view),
            unknown=word.unknown,
        )
        for word in pulled
    ]


def runs(view: ContainerView) -> bool:
    """Tell whether a container runs Ollama, as a server or to pull."""
    return any(True for _ in _calls(view))


def _calls(view: ContainerView) -> Iterator[Call]:
    yield from view.after(_PROGRAM)
    own = view.arguments()
    if own is not None and _IMAGE.fullmatch(view.image_name):
        yield own


def _pulled(calls: list[Call]) -> Iterator[Word]:
    for call in calls:
        if call.words and call.words[0].text in _PULLS:
            name = Call(call.words[1:]).positional(_SWITCHES)
            if name is not None:
                yield name


def _pulled_before(view: ContainerView) -> Iterator[Word]:
    """Yield what the pod's init containers pull, each with a server of its own for the while."""
    for before in view.pod.before:
        if before.field != view.field:
            yield from _pulled(list(_calls(before)))


def _hub_name(name: str | None) -> str | None:
    """Return a name with a registry (``hf.co/org/name:quant``) as a URI; others are read as is."""
    if name is None or name.count("/") < 2:
        return None
    return f"hf://{re.sub(r'^(?:hf[.]co|huggingface[.]co)/', '', name)}"


def _cache(view: ContainerView) -> Cache:
    place = view.env("OLLAMA_MODELS")
    if place is None:
        return Cache(f"{view.home}/.ollama/models")
    return Cache(place.text or "", "", place.read_from, place.unknown)


def _whatever_is_asked_for(view: ContainerView) -> Found:
    """Return the server's directory: its clients name the models, and any of them may be there."""
    cache = _cache(view)
    place = cache.directory if view.mounted_above(cache.directory) is not None else None
    return Found(
        value=place,
        read_from=cache.read_from,
        sure=False,
        unknown="the server's clients name the models, the spec does not",
    )
