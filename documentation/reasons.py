"""Why a node is refused: the tokens with what the event says and what is waited for."""

from __future__ import annotations

from documentation.tables import code, table
from extender.placement.objections import WOULD_END, InTree
from extender.placement.reasons import TEXTS, WAITS_FOR, Reason
from extender.serving.unscheduled import TELLS


def reasons() -> str:
    """Return one row a reason, as the code has them: ours, kube-scheduler's, the others."""
    rows = [(code(reason), TEXTS[reason], WAITS_FOR[reason]) for reason in Reason]
    ours = table(("reason", "the pod's event says", "the pod waits for"), rows)
    own = table(("reason", "the pod waits for"), [(code(one), WOULD_END[one]) for one in InTree])
    others = table(("reason", "says"), [(code(one), text) for one, text in TELLS.items()])
    return (
        f"{ours}\n\nWhat kube-scheduler refuses by itself has reasons of its own in `explain`, "
        f"with `refusedBy: kube-scheduler`; its event has its own words.\n\n{own}\n\n"
        "Metrics and the page judge no node for it: a waiting pod that was not refused here counts "
        f"under one of these.\n\n{others}"
    )
