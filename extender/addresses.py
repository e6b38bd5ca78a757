"""Addresses of models as they may be said: logs, annotations and pages are read by many."""

from __future__ import annotations

import re

_ACCOUNT = re.compile(r"(:/{1,3})[^/?#]*@")
_HUB = re.compile(r"(?:hf|huggingface):/", re.IGNORECASE)


def shown(url: str) -> str:
    """Return an address as it may be said: its query may hold a signature, and is left out.

    So are its fragment and what stands before the ``@`` of a host, which may be a password. In an
    address of the hub an ``@`` stands before the revision, which stays.
    """
    place = re.split(r"[?#]", url, maxsplit=1)[0]
    return place if _HUB.match(place) else _ACCOUNT.sub(r"\1", place, count=1)
