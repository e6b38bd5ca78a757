"""What is said of a model that is not whole: what is wrong with it, and what would help."""

from __future__ import annotations

from extender.errors import CacheError
from extender.loader.proof.names import parts_of
from extender.loader.proof.verdict import Verdict
from extender.loader.sources import Listing, Part
from extender.loader.sources.patterns import is_wanted

_PARTS = frozenset(part.value for part in Part)


class DamagedError(CacheError):
    """A model that is not what it should be; ``verdict`` lists what is wrong."""

    def __init__(self, path: str, verdict: Verdict) -> None:
        super().__init__(f"model {path}: {verdict.told()}")
        self.verdict = verdict


class IncompleteError(DamagedError):
    """A model that is not whole at its source, or as it is asked for: to fetch it is in vain.

    ``permanent``: unless somebody changes the source or what is asked of it; else it may be that
    somebody is still copying to it.
    """

    def __init__(self, path: str, verdict: Verdict, listing: Listing) -> None:
        super().__init__(path, verdict)
        listed = {file.path for file in listing.files}
        absent = [each for each in verdict.problems if each.file not in listed]
        parts = sorted({each.kind.value for each in absent} & _PARTS)
        left_out = not parts_of(listing.left_out).isdisjoint(parts) or any(
            each.file and not _is_asked_for(each.file, listing) for each in absent
        )
        self.permanent = listing.vouched or left_out
        without = (
            f", or, if it is meant to have none, say so (without: [{', '.join(parts)}] in the "
            f"catalog, fill --without {parts[0]})"
            if parts
            else ""
        )
        self.args = (f"{self}; {_cause(listing, left_out=left_out)}{without}",)


def _cause(listing: Listing, *, left_out: bool) -> str:
    """Say why files are missing, and what to do."""
    sets = {"include": listing.include, "exclude": listing.exclude}
    patterns = " and ".join(f"{name} {list(each)}" for name, each in sets.items() if each)
    if left_out:
        return (
            f"{patterns} left it out: correct the patterns (what an index names goes with the "
            "index, and shards go together)"
        )
    wait = "" if listing.vouched else "wait until all is copied there, or "
    return (
        f"this is so at the source{f', or {patterns} left it out' if patterns else ''}, and to "
        f"fetch it again does not help: {wait}correct the source"
        f"{' or the patterns' if patterns else ''}"
    )


def _is_asked_for(path: str, listing: Listing) -> bool:
    return is_wanted(path, include=listing.include, exclude=listing.exclude)
