"""Init containers that fetch models: those of known stacks by their arguments, others by script."""

from __future__ import annotations

from extender.workload.commands import Call
from extender.workload.downloads import Fill, Fills, downloads
from extender.workload.stacks.view import ContainerView

_KSERVE = "storage-initializer"


def fills(view: ContainerView) -> Fills:
    """Return what a container writes."""
    own = view.arguments()
    if own is not None and view.image_name.endswith(_KSERVE):
        return _storage_initializer(own)
    return downloads(view.command, image=view.container.image, home=view.home)


def _storage_initializer(call: Call) -> Fills:
    """Read KServe's arguments: pairs of a source and the directory that it is copied into.

    https://kserve.github.io/website/docs/model-serving/storage/overview
    """
    words = call.words
    pairs = zip(words[::2], words[1::2], strict=False)
    return Fills(
        tuple(
            Fill(source.text, target.text, read_from=source.read_from) for source, target in pairs
        )
    )
