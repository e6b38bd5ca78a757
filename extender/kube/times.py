"""Times as the API writes them: RFC 3339 texts, in UTC where they name no zone."""

from __future__ import annotations

from datetime import UTC, datetime


def unix_time(text: str) -> float | None:
    """Return a text's time in UNIX seconds; None where it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def time_text(seconds: float) -> str:
    """Return UNIX seconds as the API writes them, in whole seconds: ``2026-01-02T03:04:05Z``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
