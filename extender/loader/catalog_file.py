"""The catalog as a mounted file: read again when it changes, the last good one kept in force.

The kubelet replaces a mounted ConfigMap by swapping the ``..data`` link, so that the file's name
stays and its inode changes; the file is small enough to be read whole at each look.
"""

from __future__ import annotations

import os
from pathlib import Path

from extender.documents import parse_yaml
from extender.errors import InvalidConfigurationError
from extender.loader.catalog import Catalog, read_catalog


class CatalogFile:
    """The catalog in force, and what is wrong with the file where it is not what the file says.

    ``keep``: a file where the last good text is kept, so that a loader which starts while the
    mounted one is bad goes on with it. It lies where pods read, and its addresses may be signed:
    no other user may read it. Without one, nothing is in force until a good one is seen.
    """

    def __init__(self, path: Path, *, keep: Path | None = None) -> None:
        self._path = path
        self._keep = keep
        self._seen: bytes | None = None
        self._kept: bytes | None = None
        self.catalog: Catalog | None = None
        self.error = ""

    def poll(self) -> bool:
        """Look at the file; return whether another catalog is in force now than before.

        Never raises: what is wrong is in ``error`` (empty: the file is in force), and cleared as
        soon as a good one is seen.
        """
        before = self.catalog
        try:
            text = self._path.read_bytes()
        except OSError as error:
            self._seen = None
            self._refuse(f"{self._path}: cannot be read: {error.strerror or error}")
            return self.catalog != before
        if text == self._seen:
            if not self.error and text != self._kept:
                self._remember(text)  # the disk did not take it before
            return False
        self._seen = text
        try:
            self.catalog = self._read(text, self._path)
            self.error = ""
            self._remember(text)
        except InvalidConfigurationError as error:
            self._refuse(str(error))
        return self.catalog != before

    def _refuse(self, problem: str) -> None:
        if self.catalog is None and self._keep is not None:
            try:
                self.catalog = self._read(self._keep.read_bytes(), self._keep)
            except (OSError, InvalidConfigurationError):
                self.catalog = None  # none was kept by a release that reads the same keys
        kept = "the last good catalog stays in force" if self.catalog else "no catalog is in force"
        self.error = f"{problem}\n{kept}"

    def _remember(self, text: bytes) -> None:
        if self._keep is None:
            return
        fresh = self._keep.with_name(f"{self._keep.name}.new")
        try:
            fresh.parent.mkdir(exist_ok=True)  # on a new node nothing else was there before
            fresh.unlink(missing_ok=True)
            with open(fresh, "xb", opener=_for_this_user_alone) as file:
                file.write(text)
            fresh.replace(self._keep)
            self._kept = text
        except OSError:
            return  # a full or read-only disk: tried again at each look

    @staticmethod
    def _read(text: bytes, path: Path) -> Catalog:
        return read_catalog(parse_yaml(text, name=str(path)), name=str(path))


def _for_this_user_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
