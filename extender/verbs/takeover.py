"""What was bound before is known, before anything is bound.

The fence opens when the Bindings of another leader, or of this program before it was started anew,
have been decided. Whether the watch has told of them is not a matter of time: it may lag, or its
socket be half open. So once the fence is open the apiserver is asked which version it has, and
nothing is bound until the watch of pods has reached that one. The next change of any pod brings it
there. Where nothing else happens, the first refused bind does: kube-scheduler writes it onto its
pod.
"""

from __future__ import annotations

from collections.abc import Callable


class Takeover:
    """What has to be known in a term, and whether it is.

    ``present`` asks the apiserver for its resource version, None where that fails; ``reached``
    tells whether pods are known up to a version. A term is one leader's, by any text that the next
    one's differs from.
    """

    def __init__(self, present: Callable[[], str | None], reached: Callable[[str], bool]) -> None:
        self._present = present
        self._reached = reached
        self._asked: tuple[str, str] | None = None
        self._known = ""

    def ask(self, term: str) -> None:
        """Ask once in a term, after the fence has opened; not safe to call from two threads."""
        if self._asked is not None and self._asked[0] == term:
            return
        version = self._present()
        if version is not None:
            self._asked = term, version

    def unknown(self, term: str) -> str:
        """Return why nothing may be bound in this term yet; empty where it may.

        What was known once in a term stays known: whatever was bound before, nobody binds now.
        """
        if self._known == term:
            return ""
        asked = self._asked
        if asked is None or asked[0] != term:
            return "the apiserver has not told yet up to where pods have to be known"
        if not self._reached(asked[1]):
            return "the watch has not told yet of all that was bound before"
        self._known = term
        return ""
