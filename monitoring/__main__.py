"""``python -m monitoring`` writes deploy/monitoring/dashboard.json."""

from __future__ import annotations

from monitoring.dashboard import FILE, text

FILE.write_text(text(), encoding="utf-8")
