"""Which of two loaders of one directory speaks for it on the node's Lease.

In a rolling update with ``maxSurge`` the new pod begins before the old one ends. Both report what
they see on pods of their own, but there is one Lease for the node: the progress on it is that of
the one that holds the directory, or it would jump between the two.
"""

from __future__ import annotations

from contextlib import ExitStack

import structlog

from extender.errors import CacheError, LockHeldError
from extender.loader.layout import CacheDirectory, locked

log = structlog.get_logger("extender.loader")


class Speaker:
    """One loader's turn to speak; ``name`` says who it is. Used from one thread."""

    def __init__(self, cache: CacheDirectory, *, name: str) -> None:
        self._cache = cache
        self._name = name
        self._lock = ExitStack()
        self._speaks = False
        self._told = False
        self._refusal = ""

    def speaks(self) -> bool:
        """Take the turn where no other process has it; tell whether it is this one's.

        The kernel gives it on when the process before ends, however it ends. While the disk takes
        no lock there is nobody to wait for: what lies on it is told of all the same, and the turn
        is asked for again each time.
        """
        if self._speaks:
            return True
        try:
            self._lock.enter_context(locked(self._cache, self._cache.speaking, name=self._name))
        except LockHeldError as error:
            if not self._told:
                log.info("another loader speaks for the directory", why=str(error))
            self._told = True
            return False
        except CacheError as error:
            if self._refusal != str(error):
                log.warning("the cache directory refuses", error=str(error))
            self._refusal = str(error)
            return True
        self._speaks = True
        return True

    def end(self) -> None:
        """Let the next one speak."""
        self._lock.close()
        self._speaks = False
