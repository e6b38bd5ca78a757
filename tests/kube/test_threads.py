"""Threads that decode for the first time, all at once, as the watches do at the start."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys, threading
sys.setswitchinterval(1e-6)
from extender.kube.decode import KINDS, decode
from extender.kube.objects import KubeObject
owner = '{"kind": "DaemonSet", "name": "x", "uid": "y", "controller": true}'
data = f'{{"metadata": {{"name": "a", "ownerReferences": [{owner}]}}}}'.encode()
kinds = [*KINDS.values(), KubeObject]
together = threading.Barrier(len(kinds))
def first(kind):
    together.wait()
    for _ in range(50):
        decode(data, kind)
threads = [threading.Thread(target=first, args=(kind,)) for kind in kinds]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_kinds_that_are_first_decoded_together_crash_nothing() -> None:
    """Without decoders made beforehand one run in six died of a segmentation fault."""
    for _ in range(12):
        done = subprocess.run([sys.executable, "-c", PROGRAM], check=False, timeout=60)
        assert done.returncode == 0
