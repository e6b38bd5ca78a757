"""What is said of a model that is not whole: what is wrong with it, and what would help."""

from __future__ import annotations

from extender.errors import CacheError
from extender.loader.proof.verdict import Verdict
from extender.loader.sources import Listing, Part

_PARTS = frozenset(part.value for part in Part)


class DamagedError(CacheError):
    """A model that is not what it should be; ``verdict`` lists what is wrong."""

    def __init__(self, path: str, verdict: Verdict) -> None:
        super().__init__(f"model {path}: {verdict.told()}")
        self.verdict = verdict


class IncompleteError(DamagedError):
    """A model that is not whole at its source: to fetch it again is in vain.

    ``permanent``: unless somebody changes the source or what is asked of it; else it may be that
    somebody is still copying to it.
    """

    def __init__(self, path: str, verdict: Verdict, listing: Listing) -> None:
        super().__init__(path, verdict)
        self.permanent = listing.vouched
        wait = "" if self.permanent else "wait until all is copied there, or "
        listed = {file.path for file in listing.files}
        absent = {each.kind.value for each in verdict.problems if each.file not in listed}
        parts = sorted(absent & _PARTS)
        without = (
            f", or, if it is meant to have none, say so (without: [{', '.join(parts)}] in the "
            f"catalog, fill --without {parts[0]})"
            if parts
            else ""
        )
        self.args = (
            f"{self}; this is so at the source, or include and exclude leave it out, and to fetch "
            f"it again does not help: {wait}correct the source or the patterns (an index goes with "
            f"its shards){without}",
        )
