"""``python -m documentation`` writes every generated part of docs/ anew."""

from __future__ import annotations

from documentation.generated import pages, renewed

for page in pages():
    page.write_text(renewed(page.read_text("utf-8")), "utf-8")
