"""What ``explain`` says of a pod on the real node, before it is created."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from e2e.cluster import NODE, RealCluster
from e2e.objects import Object


def explained(
    cluster: RealCluster, namespace: str, manifest: Object, folder: Path, node: str = NODE
) -> Any:
    """Return the document of ``explain -o json`` for a manifest, on one real node alone."""
    file = folder / "pod.json"
    file.write_text(json.dumps(manifest), encoding="utf-8")
    command = [sys.executable, "-m", "extender", "explain", "-f", str(file), "--node", node]
    command += ["-n", namespace, "-o", "json", "--kubeconfig", str(cluster.kubeconfig())]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode in {0, 1}, done.stderr
    return json.loads(done.stdout)
