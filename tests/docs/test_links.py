"""Links lead somewhere: files and headings exist; addresses are addresses, and nobody asks them."""

from __future__ import annotations

import posixpath
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.docs.pages import PAGES, ROOT, Page

BY_PATH = {page.path: page for page in PAGES}
SCHEMES = {"http", "https"}


def internal(page: Page) -> list[str]:
    return [link for link in page.links if not urlsplit(link).scheme]


def test_there_is_something_to_follow() -> None:
    assert sum(len(internal(page)) for page in PAGES) > 150


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_within_the_tree_lead_to_files_and_headings(page: Page) -> None:
    for link in internal(page):
        path, _, anchor = link.partition("#")
        target = Path(posixpath.normpath(page.path.parent / path)) if path else page.path
        assert target.exists(), link
        assert ROOT in (target, *target.parents), f"{link} leads out of the repository"
        if anchor:
            assert anchor in BY_PATH[target].anchors, link


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_addresses_are_whole(page: Page) -> None:
    for link in page.links:
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme in SCHEMES, link
            assert parts.hostname, link
            assert not set(link) & set(' <>"'), link
            assert parts.scheme == "https" or parts.hostname in {"127.0.0.1", "localhost"}, link
