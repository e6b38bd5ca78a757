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
        self, *, steps: int = 10_000, characters: int = 1_000_000, within: Budget | None = None
    ) -> None:
        self._steps = steps
        self._characters = characters
        self._within = within
        self.exhausted = False

    def spend(self, *, steps: int = 0, characters: int = 0) -> bool:
        """Take something out; False where nothing is left."""
        self._steps -= steps
        self._characters -= characters
        left = self._within is None or self._within.spend(steps=steps, characters=characters)
        if self._steps < 0 or self._characters < 0 or not left:
            self.exhausted = True
        return not self.exhausted


def budget_of_pod() -> Budget:
    """Return what reading all containers of a pod may cost together: as much as eight may alone."""
    return Budget(steps=80_000, characters=8_000_000)
