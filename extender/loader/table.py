"""What this node's cache holds, as the loader knows it: the table behind report and progress.

Written by whoever works on a model, read by the reporter. Every model of the catalog that may be
on this node has a row, and so has what lies here of a catalog that had more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock

import msgspec

from extender.addresses import shown
from extender.loader.catalog import Catalog, CatalogModel
from extender.loader.leaving import Left
from extender.report import Disk, Progress, Report, ReportedModel, ReportedState, Transfer


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """One model of the catalog on this node.

    ``bytes`` and ``proven_at`` (RFC 3339) are those of what is published, where it is. A model can
    be ready and have a ``transfer``: another revision is on its way. ``wished``: it should be here;
    ``on_demand``: only where a pod waits for it. ``damaged``: it is published and not what it
    should be. ``unproven``: another program put something there; ``refused``: and it is not the
    model. ``left``: the catalog does not have it on this node any more, so that it is only looked
    at. ``going``: it is about to be removed, and is reported absent before that. ``kept``: why
    it could not be removed when it was to go.
    """

    model: CatalogModel
    state: ReportedState = ReportedState.ABSENT
    revision: str | None = None
    bytes: int | None = None
    proven_at: str | None = None
    reason: str = ""
    wished: bool = False
    on_demand: bool = False
    damaged: bool = False
    unproven: bool = False
    refused: bool = False
    left: Left | None = None
    going: bool = False
    kept: str = ""
    transfer: Transfer | None = None

    @property
    def path(self) -> str:
        """Where it lies under the cache's directory."""
        return self.model.directory

    def may_be_of(self, source: str) -> bool:
        """Tell whether what a marker says came from there is the model that the catalog has here.

        Where another program put it there nothing is known, and ``source`` is empty.
        """
        return source in {"", shown(self.model.source)}

    @property
    def stays(self) -> str:
        """Say why it does not go though nobody wishes for it; empty where it need not or can."""
        return f"cannot be removed: {self.kept}" if self.kept and not self.wished else ""

    def reported(self) -> ReportedModel:
        """Return what the report says of it."""
        if self.going:
            return ReportedModel(
                path=self.path, state=ReportedState.ABSENT, reason="it is being removed"
            )
        left = self.left if self.state is ReportedState.READY else None
        why = self.reason or (left.told if left is not None and not self.stays else "")
        return ReportedModel(
            path=self.path,
            state=self.state,
            model=shown(self.model.source) or None,
            revision=self.revision,
            bytes=self.bytes,
            proven_at=self.proven_at,
            reason="; ".join(filter(None, (why, self.stays))),
            on_demand=self.on_demand,
            leaves_at=left.leaves_at if left is not None else None,
        )


def _known(before: ModelRow | None, model: CatalogModel) -> ModelRow:
    """Return what is known of a model: nothing where its path held one of another source."""
    if before is None or shown(before.model.source) != shown(model.source):
        return ModelRow(model=model)
    return before


class ModelTable:
    """The table. Safe to use from threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._rows: dict[str, ModelRow] = {}

    def follow(
        self,
        models: Iterable[CatalogModel],
        others: Iterable[CatalogModel],
        left: Iterable[Left] = (),
        *,
        asked: Callable[[CatalogModel], bool] = lambda _: True,
        awaited: Collection[str] = (),
    ) -> None:
        """Have a row for each of these models and for no other; what is known of them is kept.

        ``models`` should be here, of which those ``awaited`` are because a pod waits; ``others``
        may be, and those that ``asked`` says yes to are fetched where a pod waits for them; what
        was ``left`` here is not fetched.
        """
        wished = {model.directory: model for model in models}
        possible = {model.directory: model for model in others}
        named = possible | wished
        leaving = {one.model.directory: one for one in left if one.model.directory not in named}
        named |= {path: one.model for path, one in leaving.items()}
        with self._lock:
            before = self._rows
            self._rows = {
                path: msgspec.structs.replace(
                    _known(before.get(path), model),
                    model=model,
                    wished=path in wished,
                    on_demand=path in possible
                    and (path not in wished or path in awaited)
                    and asked(model),
                    left=leaving.get(path),
                )
                for path, model in sorted(named.items())
            }

    def get(self, path: str) -> ModelRow | None:
        """Return one row; None where the catalog has no such model."""
        with self._lock:
            return self._rows.get(path)

    def all(self) -> tuple[ModelRow, ...]:
        """Return all rows, sorted by path."""
        with self._lock:
            return tuple(self._rows.values())

    def ready(
        self, path: str, *, revision: str | None, size: int, proven_at: str, source: str = ""
    ) -> None:
        """Note that a model is whole and proven at its final path.

        Where it came from another ``source`` (as its marker has it) than the row's nothing is
        noted: the catalog has changed since.
        """
        self._change(
            path,
            source=source,
            state=ReportedState.READY,
            revision=revision,
            bytes=size,
            proven_at=proven_at,
            reason="",
            damaged=False,
            transfer=None,
        )

    def whole(
        self, path: str, *, revision: str | None, size: int, proven_at: str, source: str = ""
    ) -> None:
        """Note the same where it was looked at: what is said of another revision stays."""
        row = self.get(path)
        if row is not None and row.state is ReportedState.READY:
            self._change(path, source=source, revision=revision, bytes=size, proven_at=proven_at)
        else:
            self.ready(path, source=source, revision=revision, size=size, proven_at=proven_at)

    def loading(self, path: str, transfer: Transfer) -> None:
        """Note how far a download is.

        A model that is ready stays so until it is replaced, a damaged one failed until it is
        mended, and one that failed in another way until more bytes have come: that it is tried
        again is no news, and the news would wake all refused pods.
        """
        row = self.get(path)
        if row is None:
            return
        failed = row.state is ReportedState.FAILED and not row.damaged
        before = row.transfer
        if failed and (before is None or transfer.bytes_done <= before.bytes_done):
            self._change(path, transfer=before or transfer)
        elif row.state is ReportedState.READY or row.damaged:
            self._change(path, transfer=transfer)
        else:
            self._change(path, state=ReportedState.LOADING, reason="", transfer=transfer)

    def let_go(self, path: str) -> None:
        """Note that a download was given up because nobody wishes for it any more."""
        row = self.get(path)
        if row is not None and row.state is ReportedState.LOADING:
            self.absent(path)
        elif row is not None:
            self._change(path, unproven=row.unproven, refused=row.refused, transfer=None)

    def paused(self, path: str) -> None:
        """Note that a download stands still for a while: nobody can tell when it will be done."""
        row = self.get(path)
        if row is not None and row.transfer is not None:
            still = msgspec.structs.replace(row.transfer, bytes_per_second=0.0)
            self._change(path, unproven=row.unproven, refused=row.refused, transfer=still)

    def failed(self, path: str, reason: str) -> None:
        """Note that a model cannot be had; one that is ready stays so, with the reason said.

        Of what another program left, and is not proven yet, nothing is said.
        """
        row = self.get(path)
        if row is not None and (row.unproven or row.refused):
            self._change(path, unproven=row.unproven, refused=row.refused, transfer=None)
        elif row is not None and (row.state is ReportedState.READY or row.damaged):
            self._change(path, reason=reason, transfer=None)
        else:
            self._change(path, state=ReportedState.FAILED, reason=reason, transfer=None)

    def damaged(self, path: str, reason: str) -> None:
        """Note that what is published is not what it should be."""
        self._change(path, state=ReportedState.FAILED, reason=reason, proven_at=None, damaged=True)

    def unknown(self, path: str, reason: str) -> None:
        """Note that the disk does not say what lies there: failed, and nothing is to be fetched."""
        self._change(path, state=ReportedState.FAILED, reason=reason, proven_at=None, transfer=None)

    def unseen(self, path: str, reason: str) -> None:
        """Note that a model cannot be looked at: one that was ready is proven no longer."""
        row = self.get(path)
        if row is not None and row.state is ReportedState.READY:
            self.unknown(path, reason)
        else:
            self.failed(path, reason)

    def unproven(self, path: str) -> bool:
        """Note that another program left something there, which will be proven and adopted.

        Until then the report does not speak of it: who put it there may vouch for it. What was
        refused stays so. Returns whether it was ready.
        """
        row = self.get(path)
        if row is not None and row.refused:
            return False
        return self._change(path, state=ReportedState.ABSENT, unproven=True)

    def refused(self, path: str, reason: str) -> None:
        """Note that what another program left there is not the model, and is in its way."""
        self._change(path, state=ReportedState.FAILED, reason=reason, refused=True, transfer=None)

    def waits(self, path: str, why: str) -> None:
        """Note that a model is proven and has to wait for its place; what is ready stays so."""
        row = self.get(path)
        if row is not None and (row.state is ReportedState.READY or row.damaged):
            self._change(path, reason=why, transfer=None)
        else:
            self.refused(path, why)

    def absent(self, path: str) -> bool:
        """Note that a model is not here and nothing is done about it; return whether it was ready.

        Of threads that find the same, one alone is told so.
        """
        return self._change(
            path,
            state=ReportedState.ABSENT,
            revision=None,
            proven_at=None,
            reason="",
            damaged=False,
            transfer=None,
        )

    @contextmanager
    def going(self, paths: Collection[str]) -> Iterator[None]:
        """Report models absent that are about to be removed, whatever is found of them meanwhile.

        Afterwards the report says again what is known: of those that went, that they are absent.
        """
        for path in paths:
            self._mark(path, going=True)
        try:
            yield
        finally:
            for path in paths:
                self._mark(path, going=False)

    def keeps(self, refusals: Mapping[str, str]) -> None:
        """Note which models could not be removed, and why; no other one."""
        with self._lock:
            self._rows = {
                path: msgspec.structs.replace(row, kept=refusals.get(path, ""))
                for path, row in self._rows.items()
            }

    def _mark(self, path: str, *, going: bool) -> None:
        with self._lock:
            row = self._rows.get(path)
            if row is not None:
                self._rows[path] = msgspec.structs.replace(row, going=going)

    def _change(self, path: str, *, source: str = "", **values: object) -> bool:
        """Change a row, if there is one of this source; return whether its model was ready."""
        with self._lock:
            row = self._rows.get(path)
            if row is None or not row.may_be_of(source):
                return False
            values = {"unproven": False, "refused": False, **values}
            self._rows[path] = msgspec.structs.replace(row, **values)
            return row.state is ReportedState.READY

    def report(
        self,
        directory: str,
        catalog: Catalog | None,
        looked_at: Callable[[str], bool] = lambda _: True,
    ) -> Report:
        """Return what the loader vouches for; ``directory`` is the cache's on the node.

        Of a model that was not ``looked_at`` yet nothing is said.
        """
        told = (
            row for row in self.all() if row.going or (not row.unproven and looked_at(row.path))
        )
        return Report(
            directory=directory,
            catalog=catalog.digest if catalog else "",
            models=tuple(row.reported() for row in told),
        )

    def progress(self, disk: Disk | None) -> Progress:
        """Return what is under way."""
        transfers = (row.transfer for row in self.all())
        return Progress(transfers=tuple(t for t in transfers if t is not None), disk=disk)
