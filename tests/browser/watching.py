"""A browser's page that notes everything that a person would find wrong in its console."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update"
).split()


class Watched:
    """``page`` has ``base`` before every address; ``wrong`` collects errors of any kind."""

    def __init__(self, page: Page, base: str) -> None:
        self.page = page
        self.base = base
        self.wrong: list[str] = []
        self.foreign: list[str] = []
        page.on("console", lambda said: self._said(said.type, said.text))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda request: self._asked(request.url))
        page.on("dialog", lambda dialog: self.wrong.append(f"dialog: {dialog.message}"))

    def _said(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.wrong.append(text)

    def _asked(self, url: str) -> None:
        if not url.startswith((self.base, "data:")):
            self.foreign.append(url)

    @classmethod
    @contextmanager
    def open(cls, browser: Browser, base: str, **options: object) -> Iterator[Watched]:
        """Open a page; at the end nothing may have been wrong, and nobody else asked."""
        context = browser.new_context(base_url=base, viewport={"width": 1440, "height": 900},
                                      **options)  # type: ignore[arg-type] # fmt: skip
        context.set_default_timeout(60_000)  # other tests run beside, on the same two cores
        watched = cls(context.new_page(), base)
        try:
            yield watched
        finally:
            context.close()
        assert watched.wrong == []
        assert watched.foreign == []


_ALL_ROUND = 400
"""Presses of Tab that go through the whole page, and come back to its beginning."""


def filter_by_keyboard(page: Page, text: str) -> None:
    """Filter the page at / by keys alone, until one row of that name is left."""
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the table")).to_be_focused()
    for _ in range(_ALL_ROUND):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == "q":
            break
    page.keyboard.type(text)
    expect(page.locator("input[name=q]")).to_have_value(text)
    page.keyboard.press("Enter")
    expect(page.get_by_role("rowheader")).to_have_text(text)
