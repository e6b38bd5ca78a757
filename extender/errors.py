"""The one error tree. Every message names the object, the field and the remedy."""

from __future__ import annotations


class ExtenderError(Exception):
    """Root of everything this program raises on purpose."""


class InvalidQuantityError(ExtenderError, ValueError):
    """A Kubernetes quantity that cannot be read."""


class InvalidObjectError(ExtenderError, ValueError):
    """One Kubernetes object that cannot be read; the others of its list are not affected."""


class InvalidConfigurationError(ExtenderError, ValueError):
    """A configuration document with errors; the message lists all of them."""


class InvalidReportError(ExtenderError, ValueError):
    """A text that a loader and the extender exchange, and that cannot be read."""


class CacheError(ExtenderError):
    """A cache directory in which something cannot be done as asked."""


class NotRemovedError(CacheError):
    """Nothing is removed now, because that might cost a pod its model."""


class LockHeldError(CacheError):
    """Another process is writing the same model."""


class ProtocolError(ExtenderError, ValueError):
    """A request that is not the extender protocol. ``status`` is the HTTP status to answer."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class UsageError(ExtenderError):
    """Wrong use of a command, or input that it cannot read (exit code 2)."""
