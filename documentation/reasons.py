"""Why a node is refused: the tokens with what the event says and what is waited for."""

from __future__ import annotations

from documentation.tables import code, table
from extender.placement.reasons import TEXTS, WAITS_FOR, Reason


def reasons() -> str:
    """Return one row a reason, in the order in which the code has them."""
    rows = [(code(reason), TEXTS[reason], WAITS_FOR[reason]) for reason in Reason]
    return table(("reason", "the pod's event says", "the pod waits for"), rows)
