"""What a container fetches, from the tools that people use: one row a tool, in ``tools``.

``reader`` goes through the calls of a command line (scripts taken apart already) and says for each
what is fetched and into which directory of the container. A program that is neither a known tool
nor known to be harmless makes the reading ``opaque``: it may fetch anything.
"""

from __future__ import annotations

from extender.workload.downloads.fill import Fill, Fills
from extender.workload.downloads.reader import MOST_FILLS, downloads, serves_nothing

__all__ = ["MOST_FILLS", "Fill", "Fills", "downloads", "serves_nothing"]
