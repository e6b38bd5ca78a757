"""Paths that the loader's commands are given.

A variable that is not set gives an empty word, which would be the current directory: the wrong
place to fill, to look at, or to remove from.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import click


class Named(click.Path):
    """A path that has a name. ``kind`` is what it should be the path of, for messages."""

    def __init__(self, kind: str = "directory", *, exists: bool = False) -> None:
        directory = kind == "directory"
        super().__init__(path_type=Path, exists=exists, file_okay=not directory, dir_okay=directory)
        self._kind = kind

    def convert(
        self,
        value: str | PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        """Return the path; an empty one is wrong use."""
        if value == "":
            self.fail(f"is empty; name the {self._kind}", param, ctx)
        return super().convert(value, param, ctx)
