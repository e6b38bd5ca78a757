"""Why a model was not obtained: in words for people, as a token for metrics."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from extender.errors import CacheError, ExtenderError, NotRemovedError
from extender.loader.damaged import DamagedError, IncompleteError
from extender.loader.foreign import ForeignError
from extender.loader.proof.reading import ReadingStoppedError
from extender.loader.sources import Cause, SourceError
from extender.loader.transfer.failures import LocalCause, TransferError


class OwnCause(StrEnum):
    """Why a model was not obtained, beside ``sources.Cause`` and ``LocalCause``."""

    FOREIGN = "foreign"
    """Another program put something at the model's path that is not it."""
    DAMAGED = "damaged"
    """What came was not what the source had said, again and again."""
    INCOMPLETE = "incomplete"
    """The source itself does not have the whole model."""
    NOT_REMOVED = "not-removed"
    """Room is short, and nothing may go: what pods read, or the report, cannot be settled now; or
    nothing can, because the file system keeps it."""
    FAULT = "fault"
    OTHER = "other"


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a model was not obtained. ``cause`` is a token for metrics."""

    message: str
    cause: str
    permanent: bool


def failure_of(error: Exception) -> Failure:
    """Return what the end of a try means."""
    if isinstance(error, SourceError | TransferError):
        # What changed in mid-download is listed anew, and then as likely to come as any other.
        permanent = error.permanent and error.cause is not Cause.CHANGED
        return Failure(message=str(error), cause=error.cause.value, permanent=permanent)
    if isinstance(error, ReadingStoppedError):
        return Failure(message=str(error), cause=LocalCause.STOPPED.value, permanent=False)
    if isinstance(error, ExtenderError):
        permanent = isinstance(error, ForeignError) or (
            isinstance(error, IncompleteError) and error.permanent
        )
        return Failure(message=str(error), cause=_token(error), permanent=permanent)
    message = "a fault of the loader; its log has the details"
    return Failure(message=message, cause=OwnCause.FAULT, permanent=False)


def _token(error: ExtenderError) -> str:
    match error:
        case IncompleteError():
            return OwnCause.INCOMPLETE
        case DamagedError():
            return OwnCause.DAMAGED
        case ForeignError():
            return OwnCause.FOREIGN
        case NotRemovedError():
            return OwnCause.NOT_REMOVED
        case CacheError():
            return LocalCause.DISK
        case _:
            return OwnCause.OTHER
