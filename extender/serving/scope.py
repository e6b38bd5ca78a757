"""What a listener answers: the more can reach it, the less.

Names of pods, models and nodes are their tenants' business. Whoever may see them reaches a loopback
address (``kubectl port-forward`` does, with the rights for it), or shows a certificate.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from enum import Enum, auto

HEALTH_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
PAGE_PATHS = frozenset({"/", "/page.css", "/page.js"})


class Scope(Enum):
    """What is served on one listener."""

    EVERYTHING = auto()
    """The first listener, which is on loopback or behind mutual TLS."""
    READ_ONLY = auto()
    """All but the verbs: the status listener on loopback."""
    PAGE = auto()
    """Health, metrics and the page, where the network reaches it and the configuration says so;
    over TLS, or the program does not start."""
    HEALTH = auto()
    """Health and metrics alone: the status listener where the network reaches it."""


def status_scope(host: str, *, page: bool) -> Scope:
    """Return what a status listener on this address (as its socket tells it) serves.

    ``page``: whether everybody who reaches it may see the page (``server.page``).
    """
    if ipaddress.ip_address(host).is_loopback:
        return Scope.READ_ONLY
    return Scope.PAGE if page else Scope.HEALTH


def serves(scope: Scope, path: str, *, verbs: Collection[str]) -> bool:
    """Tell whether a path is served in a scope; what is new has to be allowed, not forbidden."""
    if scope is Scope.EVERYTHING or path in HEALTH_PATHS:
        return True
    if scope is Scope.PAGE:
        return path in PAGE_PATHS
    return scope is Scope.READ_ONLY and path not in verbs
