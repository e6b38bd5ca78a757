"""docs/metrics.md: its tables are the collectors' own, and its queries ask for what is in them."""

from __future__ import annotations

import re

import pytest

from documentation.metrics import extender_metrics, loader_metrics
from extender.serving.families import PREFIX
from tests.docs.pages import DOCS

TEXT = (DOCS / "metrics.md").read_text("utf-8")


@pytest.mark.parametrize("made", [extender_metrics, loader_metrics], ids=["extender", "loader"])
def test_every_metric_has_a_row_that_says_what_it_means(made: object) -> None:
    assert callable(made)
    rows = made().splitlines()[2:]
    assert len(rows) > 10
    for row in rows:
        assert re.fullmatch(
            rf"\| `{PREFIX}\w+` \| (counter|gauge|histogram|info) \| .+ \| [^-].+ \|", row
        )


def test_every_query_in_the_text_names_a_metric_of_the_table() -> None:
    known = set(re.findall(rf"^\| `({PREFIX}\w+)`", TEXT, re.MULTILINE))
    used = set(re.findall(rf"\b({PREFIX}_\w+)", TEXT))
    assert used
    for name in used:
        assert name in known or re.sub(r"_(bucket|count|sum)$", "", name) in known, name
