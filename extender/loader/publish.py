"""From staging to the final path: synced, proven, marked, and shown by one rename.

The order is what makes it safe to be killed anywhere. Every file and directory is on the disk
before the proof; the proof is over before the marker is written; the marker is on the disk before
the rename. So a final path shows a whole model or none, at every moment and after every crash.

Where something stands at the final path already (another revision, what a foreign loader left), the
two are exchanged in one step, so that readers never find nothing (``placing``). Where the file
system cannot do that, two renames follow each other, and ``sweep`` completes them after a crash in
between.

A model that is written in place has no rename: its marker is taken away first and written last.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import msgspec

from extender.kube.times import time_text
from extender.loader.beforehand import problems_told
from extender.loader.damaged import DamagedError, IncompleteError
from extender.loader.disk import Disk
from extender.loader.layout import MARKER, Writing, make_parents, unwritable
from extender.loader.placing import Damage, InUse, Placing, Uses
from extender.loader.proof.blame import came_wrong
from extender.loader.proof.marker import (
    Marker,
    MarkerError,
    UnreadableMarkerError,
    marker_text,
    read_marker,
)
from extender.loader.proof.names import tells_of_others
from extender.loader.proof.reading import Reader
from extender.loader.proof.scan import walk_files
from extender.loader.proof.verdict import Level, Problem, ProblemKind, ProvenFile, Verdict
from extender.loader.proof.verify import verify
from extender.loader.sources import Listing


class Publisher(Placing):
    """Makes models visible, and takes them away. Callers hold the model's lock (``Writing``).

    Every method raises CacheError where the file system refuses (full, read-only, no permission).
    """

    def __init__(
        self,
        *,
        writer: str = "",
        disk: Disk | None = None,
        clock: Callable[[], float] = time.time,
        uses: Uses = lambda _: InUse(),
        damage: Damage = lambda _: frozenset(),
    ) -> None:
        super().__init__(disk or Disk(), uses, damage)
        self._writer = writer
        self._clock = clock

    def begin(self, held: Writing, listing: Listing) -> Path:
        """Make ready for a download; return the directory to fetch into.

        What was fetched before stays, for the download to go on from. In place, the old revision
        ends here: there is no room for two. Raises InUseError where that one is read.
        """
        try:
            make_parents(self.disk, held.staging / "file")
            journal = held.directory.journal(held.path)
            if held.directory.in_place(held.path):
                if held.directory.marker(held.path).exists():
                    self.may_go(held)
                # First, so that what stays without a marker is known for ours after a crash.
                make_parents(self.disk, journal)
                if not journal.exists():
                    self.disk.write(journal, b"")
                self._withdraw_in_place(held, keep={file.path for file in listing.files})
            else:
                self._leave_only(held.staging, {file.path for file in listing.files})
        except OSError as error:
            raise unwritable(held.directory.root, error) from error
        return held.staging

    def expect_named(self, held: Writing, listing: Listing, *, reader: Reader) -> None:
        """Refuse what is not a whole model by what those files say that tell of others.

        They lie in staging, and none of the others has to. Raises DamagedError as ``publish`` does.
        """
        try:
            problems = problems_told(held.staging, listing)
            if problems:
                told = tuple(file for file in listing.files if tells_of_others(file.path))
                verdict = Verdict(ok=False, level=Level.SIZES, problems=problems)
                came = msgspec.structs.replace(listing, files=told)
                self._refuse(held, verdict, listing, came, reader)
        except OSError as error:
            raise unwritable(held.directory.root, error) from error

    def publish(
        self, held: Writing, listing: Listing, *, asked: str = "", reader: Reader | None = None
    ) -> Marker:
        """Sync, prove and show what was fetched; return its marker. ``asked``: see ``Marker``.

        Raises DamagedError where it is not what the listing says: the damaged files are then
        removed from staging, to be fetched again, and nothing was shown; IncompleteError where
        that is no use. Raises InUseError where it is proven, and waits for the readers of what it
        is to replace.
        """
        staging = held.staging
        reader = reader or Reader()
        try:
            if not held.directory.in_place(held.path):
                self._leave_only(staging, {file.path for file in listing.files})
            self._sync_tree(staging)
            verdict = verify(staging, level=Level.HEADERS, expected=listing, reader=reader)
            if verdict.ok:  # or all of it would be read in vain
                verdict = verify(staging, level=Level.CONTENT, expected=listing, reader=reader)
            if not verdict.ok:
                self._refuse(held, verdict, listing, listing, reader)
            marker = self._marker(held, verdict, listing, asked)
            self.disk.write(staging / MARKER, marker_text(marker))
            if not held.directory.in_place(held.path):
                self.put_in_place(held, staging, marker.id)
        except OSError as error:
            raise unwritable(held.directory.root, error) from error
        return marker

    def adopt(
        self,
        held: Writing,
        *,
        listing: Listing | None = None,
        asked: str = "",
        reader: Reader | None = None,
        adopted: bool = True,
    ) -> Marker:
        """Prove what another program put at the final path, and mark it as ours (``adopted``).

        Every byte is read: what nobody vouches for is compared with all that can be had. Raises
        DamagedError where it is not whole; it is left as it is.
        """
        try:
            if not held.final.is_dir():
                problem = Problem("", ProblemKind.UNREADABLE, "is no directory")
                raise DamagedError(
                    held.path, Verdict(ok=False, level=Level.SIZES, problems=(problem,))
                )
            verdict = verify(held.final, level=Level.SIZES, expected=listing, reader=reader)
            if not verdict.ok:  # before all of it is read in vain
                raise DamagedError(held.path, verdict)
            self._sync_tree(held.final)
            verdict = verify(held.final, level=Level.CONTENT, expected=listing, reader=reader)
            if not verdict.ok:
                raise DamagedError(held.path, verdict)
            marker = self._marker(held, verdict, listing, asked, adopted=adopted)
            self.write_marker(held, marker)
        except OSError as error:
            raise unwritable(held.directory.root, error) from error
        return marker

    def renew(
        self, held: Writing, marker: Marker, verdict: Verdict, *, level: Level | None = None
    ) -> Marker:
        """Let the marker describe the files as they are now, and say if they were proven again.

        ``level`` None: only some files were looked at, so the model's proof is as old as before.
        """
        versions = {file.path: file.version for file in marker.files}
        renewed = msgspec.structs.replace(
            marker,
            files=_of_versions(verdict, versions),
            proven_at=time_text(self._clock()) if level else marker.proven_at,
            level=level or marker.level,
            writer=self._writer,
        )
        self.write_marker(held, renewed)
        return renewed

    def write_marker(self, held: Writing, marker: Marker) -> None:
        """Replace a published model's marker, in one step."""
        try:
            self.disk.write(held.directory.marker(held.path), marker_text(marker))
        except OSError as error:
            raise unwritable(held.directory.root, error) from error

    def remove(self, held: Writing) -> None:
        """Take a model away: gone at its final path in one step, its bytes freed after that."""
        try:
            if held.directory.in_place(held.path):
                self._withdraw_in_place(held, keep=set())
            else:
                self.discard(held, held.final)
        except FileNotFoundError:
            return
        except OSError as error:
            raise unwritable(held.directory.root, error) from error

    def _refuse(
        self, held: Writing, verdict: Verdict, listing: Listing, came: Listing, reader: Reader
    ) -> NoReturn:
        """Remove what of the files that ``came`` is wrong, and say so; see ``publish``."""
        wrong = came_wrong(held.staging, verdict.problems, came, reader)
        for path in wrong:
            self.disk.unlink(held.staging / path)
        if wrong:
            raise DamagedError(held.path, verdict)
        raise IncompleteError(held.path, verdict, listing)

    def _marker(
        self,
        held: Writing,
        verdict: Verdict,
        listing: Listing | None,
        asked: str,
        *,
        adopted: bool = False,
    ) -> Marker:
        versions = {file.path: file.version for file in listing.files} if listing else None
        files = _of_versions(verdict, versions) if versions is not None else verdict.proven
        return Marker(
            id=secrets.token_hex(8),
            path=held.path,
            source=listing.source if listing else "",
            revision=listing.revision if listing else None,
            files=files,
            bytes=sum(file.size for file in files),
            proven_at=time_text(self._clock()),
            level=verdict.level,
            writer=self._writer,
            adopted=adopted,
            asked=asked,
            include=listing.include if listing else None,
            exclude=listing.exclude if listing else None,
            unchecked=verdict.unchecked,
        )

    def _leave_only(self, staging: Path, wanted: set[str]) -> None:
        """Remove what does not belong to the model: journals, files of an older revision.

        A directory that is left empty goes too: a file of the new one may have its name.
        """
        for path in walk_files(staging):
            if path not in wanted:
                self.disk.unlink(staging / path)
        for parent, folders, _ in os.walk(staging, topdown=False):
            for folder in folders:
                below = Path(parent, folder)
                if not below.is_symlink() and not any(below.iterdir()):
                    self.disk.remove_directory(below)

    def _sync_tree(self, directory: Path) -> None:
        for parent, _, names in os.walk(directory, topdown=False):
            for name in names:
                file = Path(parent, name)
                if file.is_file():
                    self.disk.sync_file(file)
            self.disk.sync_directory(Path(parent))

    def _withdraw_in_place(self, held: Writing, *, keep: set[str]) -> None:
        """Take the marker away, then the files that it names and that are not kept.

        It is set aside until they are gone, so that a crash in between leaves none of them for
        good.
        """
        aside = held.directory.withdrawn
        make_parents(self.disk, aside)
        with suppress(FileNotFoundError):
            self.disk.rename(held.directory.marker(held.path), aside)
        self.disk.sync_directory(held.final)
        try:
            marker = read_marker(aside.parent)
        except UnreadableMarkerError as error:
            raise error.because from None
        except MarkerError:
            marker = None
        for file in marker.files if marker else ():
            if file.path not in keep:
                self.disk.unlink(held.final / file.path)
        self.disk.unlink(aside)


def _of_versions(verdict: Verdict, versions: Mapping[str, str]) -> tuple[ProvenFile, ...]:
    """Return the proven files that these versions name, each with its own."""
    return tuple(
        msgspec.structs.replace(file, version=versions[file.path])
        for file in verdict.proven
        if file.path in versions
    )
