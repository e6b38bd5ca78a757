"""Whose fault it is that what was fetched is no whole model: the way here, or the source itself.

What came wrong is fetched again. What is at the source as it is here stays so however often it is
fetched: an index that names a shard which is not listed, a file that was cut before it was put
there.
"""

from __future__ import annotations

from pathlib import Path

from extender.loader.proof.manifest import Expected, of_listing
from extender.loader.proof.reading import Reader
from extender.loader.proof.verdict import Problem, ProblemKind
from extender.loader.proof.verify import prove_file
from extender.loader.sources import Listing

_CAME_WRONG = frozenset(
    {ProblemKind.MISSING, ProblemKind.SIZE, ProblemKind.CONTENT, ProblemKind.UNREADABLE}
)
"""A file of the listing with one of these is not what the source said of it."""


def came_wrong(
    directory: Path, problems: tuple[Problem, ...], listing: Listing, reader: Reader
) -> list[str]:
    """Return which files of a listing another download may bring right; empty: none.

    A file that disagrees with itself came wrong unless it has the hash that the source gives it.
    Where one is missed that is not listed, so may those have come wrong that name it. Raises
    ReadingStoppedError.
    """
    listed = of_listing(listing).files
    wrong = {each.file for each in problems if each.kind in _CAME_WRONG} & listed.keys()
    odd = {each.file for each in problems} & listed.keys()
    told = {path for path in listed if path.endswith(".json")}
    for path in (odd | told) - wrong:
        if _has_hash(listed[path]):
            if prove_file(directory, path, listed[path], reader) is not None:
                wrong.add(path)
        elif path in odd:
            wrong.add(path)
    return sorted(wrong)


def without_hash(problems: tuple[Problem, ...], listing: Listing) -> bool:
    """Tell whether no file with a problem has a hash: what comes twice alike is so at its source.

    With a hash it is not: somebody in between gives other bytes.
    """
    listed = of_listing(listing).files
    return not any(_has_hash(listed[each.file]) for each in problems if each.file in listed)


def _has_hash(expected: Expected) -> bool:
    return bool(expected.sha256 or expected.git_oid)
