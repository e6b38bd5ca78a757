"""What reading a pod may cost: whoever may create a pod may write what takes long to read.

Eight kilobytes of variables, each twice the one before, are gigabytes once they are filled in. The
readers of specs run where pods are decided about, so a pod must not cost more than its share.
"""

from __future__ import annotations

MOST_CONTAINERS = 64
"""Containers of a pod that are read, and as many init containers; nobody runs more."""

MOST_MODELS = 32
"""Models of a pod that nodes are asked about. Each of them is looked for on every node."""


class Budget:
    """What reading variables and scripts may cost. Once spent, reading stops.

    Steps are commands; characters are text that is made, copied or parsed again. ``exhausted`` says
    that something was not read. What is spent is taken out of ``within``, too.
    """

    def __init__(
        self, *, steps: int = 2_000, characters: int = 100_000, within: Budget | None = None
    ) -> None:
        self._steps = steps
        self._characters = characters
        self._within = within
        self.exhausted = False

    def spend(self, *, steps: int = 0, characters: int = 0) -> bool:
        """Take something out; False where nothing is left."""
        if self.exhausted or steps > self._steps or characters > self._characters:
            self.exhausted = True
            return False
        self._steps -= steps
        self._characters -= characters
        left = self._within is None or self._within.spend(steps=steps, characters=characters)
        self.exhausted = not left
        return left


def budget_of_pod() -> Budget:
    """Return what reading all containers of a pod may cost together: as much as four may alone.

    The scripts that serving stacks document take a dozen steps and a thousand characters.
    """
    return Budget(steps=8_000, characters=400_000)


def budget_of_looking() -> Budget:
    """Return what following a pod's models to its volumes and to what writes there may cost."""
    return Budget(steps=20_000)
