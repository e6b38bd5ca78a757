"""The real node itself: it runs pods, and pods reach what they need."""

from __future__ import annotations

from e2e import images
from e2e.cluster import NODE, RealCluster
from e2e.objects import phase, pod

ASK = """
import os, ssl, urllib.request
authority = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
url = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}/readyz"
answer = urllib.request.urlopen(url, context=ssl.create_default_context(cafile=authority))
print(answer.read().decode(), end="")
"""


def test_a_pod_runs_on_the_real_node_and_reaches_the_apiserver(
    cluster: RealCluster, namespace: str
) -> None:
    manifest = pod("asker", images.PRODUCT, ["python3", "-c", ASK])
    cluster.apply(manifest, namespace)
    cluster.wait_for(lambda: phase(cluster, namespace, "asker") == "Succeeded", 60, "the pod's end")
    assert cluster.logs(namespace, "asker") == "ok"
    assert cluster.pod(namespace, "asker")["spec"]["nodeName"] == NODE
