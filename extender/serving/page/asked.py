"""What a page's address asks for: one view, filtered, grouped, and one page of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import msgspec

VIEWS = ("nodes", "waiting", "decisions", "memory")
SIZES = (25, 50, 100, 200)
_LONGEST = 250
"""Of a text that is asked for; longer ones are cut."""

S = TypeVar("S")
T = TypeVar("T")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One address. Texts match a part of a name, in any case; empty ones match all.

    ``group`` is the key of a node label, ``value`` one of its values ("" is a node without it; None
    shows the groups themselves). ``sort`` is of the memory view: ``name`` or ``free``.
    """

    view: str = "nodes"
    q: str = ""
    model: str = ""
    state: str = ""
    reason: str = ""
    group: str = ""
    value: str | None = None
    sort: str = "name"
    page: int = 1
    size: int = 50

    def url(self, **changes: Any) -> str:
        """Return the address with some of it changed; what is as by default is left out."""
        changed = msgspec.structs.replace(self, **changes)
        plain = Asked()
        given = {
            name: getattr(changed, name)
            for name in Asked.__struct_fields__
            if getattr(changed, name) != getattr(plain, name)
        }
        return f"/?{urlencode(given)}" if given else "/"

    @property
    def hidden(self) -> dict[str, str]:
        """Return what a filter form carries along; a value with the label that it is one of."""
        kept = {"view": self.view, "size": str(self.size)}
        return kept | ({"value": self.value, "of": self.group} if self.value is not None else {})


def asked(arguments: Mapping[str, str]) -> Asked:
    """Read an address. What makes no sense there counts as left out: a link never breaks.

    So does the value of another label than the one to group by, which a form may carry along.
    """
    text = {key: arguments.get(key, "").strip()[:_LONGEST] for key in ("q", "model", "group")}
    value = arguments.get("value")
    grouped = text["group"] and arguments.get("of", text["group"])[:_LONGEST] == text["group"]
    view = arguments.get("view", "")
    return Asked(
        view=view if view in VIEWS else VIEWS[0],
        state=arguments.get("state", "")[:_LONGEST],
        reason=arguments.get("reason", "")[:_LONGEST],
        value=value[:_LONGEST] if value is not None and grouped else None,
        sort="free" if arguments.get("sort") == "free" else "name",
        page=_number(arguments.get("page"), 1),
        size=size if (size := _number(arguments.get("size"), 50)) in SIZES else 50,
        **text,
    )


def _number(text: str | None, otherwise: int) -> int:
    digits = text is not None and text.isascii() and text.isdigit() and len(text) < 9
    return max(1, int(text)) if digits and text else otherwise


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One page of ``total`` rows; ``first`` counts from 1, 0 where there is none."""

    rows: Sequence[T]
    number: int
    pages: int
    total: int
    first: int

    @property
    def last(self) -> int:
        """Return the number of the last row."""
        return self.first + len(self.rows) - 1 if self.rows else 0


def cut(rows: Sequence[S], question: Asked, make: Callable[[S], T]) -> Page[T]:
    """Make the rows of the page that is asked for; beyond the last one, the last."""
    pages = max(1, -(-len(rows) // question.size))
    number = min(question.page, pages)
    begin = (number - 1) * question.size
    return Page(
        rows=[make(row) for row in rows[begin : begin + question.size]],
        number=number,
        pages=pages,
        total=len(rows),
        first=begin + 1 if rows else 0,
    )
