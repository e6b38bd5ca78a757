"""A loader's own report: read strictly, as it comes from another pod.

It may speak only of what lies under a host directory that its pod mounts writable. A report that
cannot be read, or that claims more, does not count at all: what a loader of another release says by
half might be taken for absence. Where single entries cannot be read the others count. The model of
such an entry is ``failed``; where not even its path can be told, all that the report does not name
is as it was before there was one. Neither sends a pod to a model that may not be there.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import msgspec

from extender.cluster.holdings import Evidence, Holding, ModelState
from extender.errors import InvalidReportError
from extender.kube.lives import ContainerLog
from extender.kube.times import unix_time
from extender.report import (
    MAX_REASON_CHARACTERS,
    MAX_REPORT_BYTES,
    ReportedModel,
    ReportedState,
    Unreadable,
    read_report_entries,
)
from extender.workload.volumes import is_within, normal

_ITS_OWN = ContainerLog()

_SHOWN = 80
"""Characters of a spoilt entry's path."""

_MOST_SPOILT = 100
"""Of a report with more of them nothing counts: anybody may fill one with thousands, again and
again, and each costs more than one that can be read."""

_TOLD = 3
"""Spoilt entries that are told of one by one."""


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """What a pod's report says: holdings by path, all of them ``verified``.

    A path under ``directory`` that is not among the holdings is absent, unless the report says that
    it had to leave some out (``incomplete``), or has an entry that may be of any (``unclear``).
    ``spoilt`` says what is wrong with the entries that cannot be read, empty where all can.
    """

    directory: str
    holdings: Mapping[str, Holding]
    incomplete: bool = False
    unclear: bool = False
    spoilt: str = ""


def read_report(
    text: str,
    directories: tuple[str, ...],
    *,
    witness: str,
    namespace: str,
    told: float,
) -> Reported:
    """Read the report of a pod that may write ``directories`` on its node.

    ``told`` is the time of what it says; see ``since_before``. Raises InvalidReportError that says
    what is wrong.
    """
    if len(text.encode()) > MAX_REPORT_BYTES:
        raise InvalidReportError(f"the report has more than {MAX_REPORT_BYTES} bytes")
    report, entries = read_report_entries(text)
    directory = normal(report.directory)
    if not any(is_within(directory, mounted) for mounted in directories):
        raise InvalidReportError(
            f"the report speaks of {_plain(report.directory)!r}, but its pod fills "
            f"{', '.join(directories)}; mount that directory as a writable hostPath"
        )
    holdings: dict[str, Holding] = {}
    spoilt: list[str] = []
    unclear = False
    for at, entry in enumerate(entries):
        path = _path(entry.path, directory)
        if isinstance(entry, ReportedModel) and path and path not in holdings:
            holding = _holding(entry, path, witness=witness, namespace=namespace, told=told)
        else:
            why = _why_spoilt(entry, path)
            shown = f" {_plain(entry.path[:_SHOWN])!r}" if entry.path else ""
            spoilt.append(f"models[{at}]{shown} {why}")
            if len(spoilt) > _MOST_SPOILT:
                raise InvalidReportError(f"{_counted(spoilt)}; no more of it is read")
            if not path:
                unclear = True
                continue
            nothing = ReportedModel(
                path=entry.path,
                state=ReportedState.FAILED,
                reason=f"its entry in the report {why}",
            )
            holding = _holding(nothing, path, witness=witness, namespace=namespace, told=told)
        holdings[path] = holding
    return Reported(
        directory=sys.intern(directory),
        holdings=holdings,
        incomplete=report.unlisted is not None,
        unclear=unclear,
        spoilt=_counted(spoilt),
    )


def since_before(now: Reported, before: Reported | None) -> Reported:
    """Return a pod's report with the times of its last one, where it says the same as that."""
    if before is None:
        return now
    known = before.holdings
    holdings = {path: _since(one, known.get(path)) for path, one in now.holdings.items()}
    return msgspec.structs.replace(now, holdings=holdings)


def _path(said: str, directory: str) -> str:
    """Return the path on the node that an entry speaks of; empty where it is none below ours."""
    path = normal(f"{directory}/{said}")
    below = path != directory and is_within(path, directory) and _plain(path) == path
    return path if said and below else ""


def _why_spoilt(entry: ReportedModel | Unreadable, path: str) -> str:
    if isinstance(entry, Unreadable):
        return f"cannot be read: {_plain(entry.problem)}; let loader and extender be of one release"
    return "is there twice" if path else "is not a path below its directory"


def _counted(spoilt: list[str]) -> str:
    if not spoilt:
        return ""
    some = "; ".join(spoilt[:_TOLD]) + "; ..." * (len(spoilt) > _TOLD)
    return f"{len(spoilt)} of its report's models do not count: {some}"


def _holding(
    model: ReportedModel, path: str, *, witness: str, namespace: str, told: float
) -> Holding:
    state = ModelState(model.state.value)
    proven = unix_time(model.proven_at) if model.proven_at else None
    return Holding(
        path=sys.intern(path),
        state=state,
        evidence=Evidence.VERIFIED,
        witness=witness,
        namespace=namespace,
        model=sys.intern(_plain(model.model)) if model.model else None,
        reason=_plain(model.reason[:MAX_REASON_CHARACTERS]),
        log=_ITS_OWN,
        since=proven if state is ModelState.READY else told,
        bytes=model.bytes,
        proven_at=proven,
        told=told,
        entry=sys.intern(model.path),
        on_demand=model.on_demand,
        leaves_at=unix_time(model.leaves_at) if model.leaves_at else None,
    )


def _since(now: Holding, before: Holding | None) -> Holding:
    """Keep the times of what is as it was."""
    if before is None:
        return now
    if now.state is not before.state:
        return msgspec.structs.replace(now, since=now.told)
    same = msgspec.structs.replace(now, since=before.since, told=before.told)
    return same if same == before else msgspec.structs.replace(now, since=before.since)


def _plain(text: str) -> str:
    """Take out what would move a terminal's cursor: the text goes to people's screens."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
