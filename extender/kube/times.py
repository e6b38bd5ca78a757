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
