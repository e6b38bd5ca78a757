"""The site builds without a warning, whole, and loads nothing from anywhere else."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.docs.pages import DOCS
from tests.docs.site import build

LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "object": "data"}
NOT_LOADED = {"canonical", "prev", "next", "alternate"}


class Loaded(HTMLParser):
    """What a page has a browser load: scripts, styles, pictures, hints."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in LOADS and given.get(LOADS[tag]):
            self.found.append(given[LOADS[tag]])
        if tag == "link" and not set(given.get("rel", "").split()) & NOT_LOADED:
            self.found.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("site"))


def test_every_page_is_there(site: Path) -> None:
    pages = {page.relative_to(DOCS).with_suffix(".html") for page in DOCS.rglob("*.md")}
    built = {page.relative_to(site) for page in site.rglob("*.html")}
    assert built - pages == {Path("404.html")}
    assert pages <= built


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        outside = [link for link in Loaded(text).found if urlsplit(link).netloc]
        assert outside == [], page
        # What the theme's script would fetch for: facts of a repository, diagrams.
        assert 'data-md-component="source"' not in text
        assert 'class="mermaid"' not in text
    for style in site.rglob("*.css"):
        text = style.read_text("utf-8")
        assert not re.search(r"url\(\s*['\"]?(?:https?:)?//|@import", text), style


def test_links_out_of_the_pages_lead_into_the_repository(site: Path) -> None:
    text = (site / "operations" / "install.html").read_text("utf-8")
    repository = "https://github.com/model-cache-extender/model-cache-extender/blob/main"
    assert f'href="{repository}/deploy/README.md"' in text
    for page in site.rglob("*.html"):
        assert 'href="../../' not in page.read_text("utf-8").replace('href="../../assets', "")
