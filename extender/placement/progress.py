"""A download that is under way, as its loader tells on the node's Lease: what is left of it."""

from __future__ import annotations

from extender.kube.quantity import format_bytes
from extender.report import Transfer

PLAUSIBLE_RATE = (1e5, 5e10)
"""Bytes per second between which a measured download is believed: a slow modem to 400 Gbit/s."""


def bytes_left(transfer: Transfer) -> int:
    """Return what is still to come."""
    return max(0, transfer.bytes_total - transfer.bytes_done)


def seconds_left(transfer: Transfer) -> float | None:
    """Return how long that takes at the measured rate; None where that cannot be believed."""
    low, high = PLAUSIBLE_RATE
    rate = transfer.bytes_per_second
    return bytes_left(transfer) / rate if low <= rate <= high else None


def describe(transfer: Transfer) -> str:
    """Say how far it is: ``41 % of 15.0 GiB, 3 min left``."""
    share = 100 * transfer.bytes_done // transfer.bytes_total if transfer.bytes_total else 0
    seconds = seconds_left(transfer)
    left = f", {in_words(seconds)} left" if seconds is not None else ""
    return f"{share} % of {format_bytes(transfer.bytes_total)}{left}"


def in_words(seconds: float) -> str:
    """Say a time in the unit that people would: ``40 s``, ``3 min``, ``2.5 h``, ``12 days``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.0f} days"
