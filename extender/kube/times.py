"""Times as the API writes them: RFC 3339 texts, in UTC where they name no zone."""

from __future__ import annotations

from datetime import MAXYEAR, MINYEAR, UTC, datetime


def unix_time(text: str) -> float | None:
    """Return a text's time in UNIX seconds; None where it is none, or ``time_text`` has no text."""
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    # In seconds the last microsecond of the last year is the first of one that cannot be written.
    return moment.timestamp() if MINYEAR < moment.year < MAXYEAR else None


def time_text(seconds: float) -> str:
    """Return UNIX seconds as the API writes them, in whole seconds: ``2026-01-02T03:04:05Z``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
