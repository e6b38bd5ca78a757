"""Where a pod's weights are read from: the last leg before the engine starts."""

from __future__ import annotations

from enum import StrEnum


class Tier(StrEnum):
    """The names are those of ``estimate.bandwidths`` in the configuration."""

    PAGE_CACHE = "pageCache"
    DISK = "disk"
    SHARED_VOLUME = "sharedVolume"
    REGISTRY = "registry"
    HUB = "hub"


WARM = frozenset({Tier.PAGE_CACHE, Tier.DISK})
"""The model is on the node already: nothing is fetched."""
