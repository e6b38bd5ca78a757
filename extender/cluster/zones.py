"""The nodes of each zone, for whoever takes some of each.

They lie in an order that has nothing to do with their names, so that those that follow one another
are no neighbours: the nodes of one rack or pool are often named in a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from zlib import crc32


class Zones:
    """Made of the zone of each node, empty for none; put in order when somebody asks."""

    def __init__(self, zones: Mapping[str, str]) -> None:
        self._zones = zones

    @cached_property
    def nodes(self) -> Sequence[tuple[str, ...]]:
        """Return the names of the nodes of each zone."""
        found: dict[str, list[str]] = {}
        for name in sorted(self._zones, key=lambda name: (crc32(name.encode()), name)):
            found.setdefault(self._zones[name], []).append(name)
        return [tuple(names) for names in found.values()]


NO_ZONES = Zones({})
