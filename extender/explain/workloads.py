"""The documents of a manifest: one for each pod that it carries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from extender.explain.document import Document, explain
from extender.verbs.context import Context
from extender.workload.counts import wanted_of
from extender.workload.manifest import Part


def explain_all(
    manifest: Any, parts: Sequence[Part], context: Context, only: str | None = None
) -> list[Document]:
    """Explain each of a manifest's pods. For ``only`` see ``explain``.

    Raises UsageError where it asks for a number of pods that is none.
    """
    wanted = wanted_of(manifest, parts)
    return [
        explain(
            one.pod,
            context,
            one.asked,
            part=one.name,
            field=one.field,
            only=only,
            wanted=wanted.get(one.name),
        )
        for one in parts
    ]
