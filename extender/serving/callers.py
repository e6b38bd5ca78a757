"""Who asks, by the address that the socket tells."""

from __future__ import annotations

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=64)
def is_loopback(address: str) -> bool:
    """Tell whether an address is this host's own; a zone after ``%`` is no part of it."""
    try:
        return ipaddress.ip_address(address.split("%", 1)[0]).is_loopback
    except ValueError:
        return False
