"""Which directories may hold the model that is asked for, where a nearer place has several.

A cache may have one repository twice: two revisions, or two sets of files that patterns chose. The
one that was asked for in the same words comes first. Where nothing tells which revision is meant,
the source is asked for the one that it has now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from extender.addresses import shown
from extender.errors import ExtenderError
from extender.loader.origin import Origin
from extender.loader.proof.manifest import folder_of, is_snapshot
from extender.loader.proof.marker import Marker
from extender.loader.sources import Source, SourceError
from extender.loader.sources.urls import HUB, Location, locate
from extender.loader.stored import Stored, model_directories, models_of_cache


class NotNearbyError(ExtenderError):
    """A directory that does not hold the model, or not whole; the message says why."""


class _Candidate(msgspec.Struct, frozen=True):
    """One place. ``meant``: something tells that it is this one; ``whole``: see ``has_all_of``."""

    directory: Path
    revision: str | None = None
    meant: bool = False
    whole: bool = True


def candidates(
    directory: Path, origin: Origin, open_source: Callable[[Origin], Source]
) -> list[Path]:
    """Return where a model may lie in a nearer place, the likeliest first.

    The directory itself where it is no cache of many. Raises NotNearbyError and OSError.
    """
    wanted = locate(shown(origin.source), origin.revision)
    held = models_of_cache(directory)
    of_it = [each for each in held if _is_of(each, wanted)] if held else [Stored(path="")]
    if not of_it:
        raise NotNearbyError(
            f"holds {len(held)} models, of which none is known to be this one; name the directory "
            "of the model itself"
        )
    found = [one for each in of_it for one in _places(directory / each.path, each.marker, origin)]
    found.sort(key=lambda one: (not one.meant, not one.whole))
    if wanted.revision is None and not found[0].meant:
        found = _of_now(found, origin, open_source)
    return [one.directory for one in found]


def has_all_of(marker: Marker, origin: Origin) -> bool:
    """Tell whether a model was filled with all that is asked for, as far as patterns tell."""
    taken, wanted = set(marker.include or ()), set(origin.include)
    all_taken = not taken or (bool(wanted) and wanted <= taken)
    return all_taken and set(marker.exclude or ()) <= set(origin.exclude)


def place_of(location: Location) -> tuple[str, str]:
    """Return what two addresses of one place have in common, whatever revision they name."""
    return location.scheme, location.place.rstrip("/")


def _is_of(stored: Stored, wanted: Location) -> bool:
    """Tell whether a model of a cache is known to come from a source."""
    if stored.marker is None:
        return wanted.scheme == HUB and Path(stored.path).name == folder_of(wanted.place)
    try:
        source = stored.marker.source
        return bool(source) and place_of(locate(source)) == place_of(wanted)
    except SourceError:
        return False


def _places(directory: Path, marker: Marker | None, origin: Origin) -> Iterator[_Candidate]:
    """Yield a directory, or the snapshots of one in the layout of the hub's cache."""
    snapshots = [each for each in model_directories(directory) if is_snapshot(each)]
    if marker is not None or not snapshots or snapshots == [directory]:
        meant = marker is not None and marker.asked == origin.asked
        revision = marker.revision if marker is not None else None
        whole = marker is None or has_all_of(marker, origin)
        yield _Candidate(directory, revision, meant, whole)
        return
    try:
        named = (directory / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        named = ""
    for snapshot in snapshots:
        yield _Candidate(snapshot, snapshot.name, snapshot.name == named)


def _of_now(
    found: list[_Candidate], origin: Origin, open_source: Callable[[Origin], Source]
) -> list[_Candidate]:
    """Return those of the revision that the source has now, where there are several."""
    held = sorted({one.revision or "" for one in found})
    if len(held) == 1:
        return found
    told = f"holds several revisions of it ({', '.join(held)})"
    try:
        now = open_source(origin).list().revision
    except SourceError as error:
        raise NotNearbyError(f"{told}; say which with --revision: {error}") from error
    of_now = [one for one in found if one.revision == now]
    if not of_now:
        raise NotNearbyError(f"{told}, and none is what SOURCE has now: {now}")
    return of_now
