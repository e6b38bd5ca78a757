"""What a run leaves on purpose: in build/e2e of the repository."""

from __future__ import annotations

import shutil
from pathlib import Path

KEPT = Path(__file__).resolve().parents[1] / "build" / "e2e"
LOGS = KEPT / "logs"
WRITTEN = ("tests/**/*.log", "*/root/var/log/pods/**/*.log")
"""In a run's folder: the logs of the programs, what a failed test saw, and those of pods. Nothing
else, as tokens and keys lie beside them.
"""


def keep_logs(folder: Path) -> None:
    """Copy every log of a run, in place of those of the run before."""
    shutil.rmtree(LOGS, ignore_errors=True)
    for pattern in WRITTEN:
        for log in folder.glob(pattern):
            if log.is_file():
                to = LOGS / log.relative_to(folder)
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(log, to)
