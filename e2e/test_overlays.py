"""The other ways to run the extender, as shipped, on the real node."""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError

import pytest
import yaml

from e2e.cluster import NODE, RealCluster
from e2e.examples import GPU, advertise_gpus
from e2e.images import SCHEDULER as SCHEDULER_IMAGE
from e2e.node import STATIC_PODS
from e2e.objects import Object
from e2e.shipped import (
    deploy_scheduler,
    from_node_cache,
    has_model,
    rolled_out,
    serving,
)
from tests.authority import CLIENT, SERVER, Authority, Pair
from tests.controlplane.cluster import is_ready
from tests.controlplane.shipped import ROOT, SCHEDULER, SYSTEM, kustomized

PAGE = "deploy/overlays/with-page"
APART = "deploy/overlays/two-deployments"
BESIDE = "deploy/overlays/existing-scheduler"
STATUS_PORT, VERBS_PORT = 8889, 8888
EXTENDER = "model-cache-extender"
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
HOSTS, KUBERNETES = Path("/var/lib/kubernetes"), Path("/etc/kubernetes")
"""The node's folder that stands for the other, which would be the machine's own."""
LEASE = "kube-scheduler"
SCHEDULER_CONF = {
    "name": "kubeconfig",
    "hostPath": f"{KUBERNETES}/scheduler.conf",
    "mountPath": f"{KUBERNETES}/scheduler.conf",
    "readOnly": True,
    "pathType": "File",
}
"""Which kubeadm mounts without being asked."""
HOST = f"{EXTENDER}.{SYSTEM}.svc"
"""The name in the address by which the two Deployments' scheduler asks."""


@pytest.fixture
def cluster_again(deployed: RealCluster) -> Iterator[RealCluster]:
    """Put back the second scheduler as the other tests know it."""
    deployed.wait_for(lambda: has_model(deployed), 120, "the loader to have the model")
    yield deployed
    deploy_scheduler(deployed)


def secret(name: str, pair: Pair, authority: Authority) -> Object:
    """Return the Secret of a certificate."""
    files = {"tls.crt": pair.cert, "tls.key": pair.key, "ca.crt": authority.cert}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": SYSTEM},
        "stringData": {key: file.read_text(encoding="ascii") for key, file in files.items()},
    }


def running(cluster: RealCluster, app: str) -> list[Object]:
    """Return an application's pods that live, each of which has to be ready and never restarted."""
    label = f"app.kubernetes.io/name={app}"
    pods = cluster.get_json("pods", "-n", SYSTEM, "-l", label)["items"]
    found = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    for pod in found:
        assert is_ready(pod)
        for kind in ("initContainerStatuses", "containerStatuses"):
            assert {status["restartCount"] for status in pod["status"].get(kind, [])} <= {0}
    return found


def asked(url: str, context: ssl.SSLContext | None = None) -> tuple[int, str]:
    """GET a URL of a pod, past any proxy."""
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    handlers += [urllib.request.HTTPSHandler(context=context)] if context else []
    with urllib.request.build_opener(*handlers).open(url, timeout=10) as answer:
        return answer.status, answer.read().decode()


@contextmanager
def unanswered() -> Iterator[None]:
    """Expect a question to fail without an answer: in TLS 1.3 the refusal may come when read."""
    with pytest.raises(OSError) as failed:  # noqa: PT011 - urllib's and the socket's are its kinds
        yield
    assert not isinstance(failed.value, HTTPError)


def test_with_the_page_probes_and_people_come_over_https(
    cluster_again: RealCluster, namespace: str, tmp_path: Path
) -> None:
    cluster = cluster_again
    authority = Authority(tmp_path)
    pair = authority.issue("page", SERVER)
    cluster.apply(secret("model-cache-page-tls", pair, authority))
    cluster.apply(kustomized(cluster, PAGE))
    rolled_out(cluster, SYSTEM, f"deployment/{SCHEDULER}")
    pods = running(cluster, SCHEDULER)
    assert len(pods) == 2
    trusting = ssl.create_default_context(cafile=str(authority.cert))
    trusting.check_hostname = False  # the certificate has a name, and no Service is proxied here
    for pod in pods:
        (extender,) = pod["spec"]["initContainers"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert extender[probe]["httpGet"]["scheme"] == "HTTPS"
        address = f"{pod['status']['podIP']}:{STATUS_PORT}"
        status, page = asked(f"https://{address}/", trusting)
        assert status == 200
        assert "<html" in page
        assert asked(f"https://{address}/readyz", trusting)[0] == 200
        with unanswered():
            asked(f"http://{address}/readyz")
    cluster.apply(from_node_cache("beside-the-page"), namespace)
    serving(cluster, namespace, "beside-the-page")
    cluster.kubectl(
        "delete", "service/model-cache-page", "secret/model-cache-page-tls", "-n", SYSTEM
    )


def test_in_two_deployments_the_scheduler_asks_over_mutual_tls(
    cluster_again: RealCluster, namespace: str, tmp_path: Path
) -> None:
    cluster = cluster_again
    authority = Authority(tmp_path)
    server, client = authority.issue("extender", SERVER, host=HOST), authority.issue("s", CLIENT)
    # One namespace, and names that the two ways share.
    cluster.kubectl("delete", f"deployment/{SCHEDULER}", "-n", SYSTEM, "--cascade=foreground")
    cluster.apply(secret(f"{EXTENDER}-tls", server, authority))
    cluster.apply(secret(f"{SCHEDULER}-tls", client, authority))
    text = kustomized(cluster, APART)
    try:
        cluster.apply(text)
        rolled_out(cluster, SYSTEM, f"deployment/{EXTENDER}")
        (extender,) = running(cluster, f"{EXTENDER}-alone")
        # Nothing resolves or proxies a Service here: the pod's own address, in its place.
        alias = {"ip": extender["status"]["podIP"], "hostnames": [HOST]}
        patch = json.dumps({"spec": {"template": {"spec": {"hostAliases": [alias]}}}})
        cluster.kubectl("patch", f"deployment/{SCHEDULER}", "-n", SYSTEM, f"--patch={patch}")
        rolled_out(cluster, SYSTEM, f"deployment/{SCHEDULER}")
        assert len(running(cluster, f"{SCHEDULER}-alone")) == 2
        cluster.apply(from_node_cache("asked-over-tls"), namespace)
        serving(cluster, namespace, "asked-over-tls")
        pod = cluster.pod(namespace, "asked-over-tls")
        assert "modelcache.dev/decision" in pod["metadata"]["annotations"]
        trusting = ssl.create_default_context(cafile=str(authority.cert))
        trusting.check_hostname = False
        with unanswered():  # no certificate, no answer
            asked(f"https://{extender['status']['podIP']}:{VERBS_PORT}/healthz", trusting)
    finally:
        cluster.kubectl("delete", "-f", "-", "--ignore-not-found", input=workloads(text))
        names = [f"secret/{EXTENDER}-tls", f"secret/{SCHEDULER}-tls"]
        cluster.kubectl("delete", *names, "-n", SYSTEM)


def test_the_clusters_own_scheduler_asks_the_extender_of_its_host(
    cluster_again: RealCluster, namespace: str
) -> None:
    cluster = cluster_again
    node = cluster.real[NODE]
    (former,) = (process for process in cluster.processes() if process.name == "default-scheduler")
    cluster.kubectl("label", "node", NODE, f"{CONTROL_PLANE}=")
    advertise_gpus(cluster, 1)
    text = kustomized(cluster, BESIDE)
    manifest = node.path(STATIC_PODS) / "kube-scheduler.yaml"
    try:
        cluster.apply(text)
        rolled_out(cluster, SYSTEM, f"daemonset/{EXTENDER}")
        assert len(running(cluster, EXTENDER)) == 1
        cluster.stop_process(former)
        files = node.path(HOSTS)
        files.mkdir(exist_ok=True)
        config = (ROOT / BESIDE / "kube-scheduler-config.yaml").read_text(encoding="utf-8")
        (files / "kube-scheduler-config.yaml").write_text(config, encoding="utf-8")
        kubeconfig = cluster.kubeconfig_with_authority("system:kube-scheduler")
        (files / "scheduler.conf").write_text(kubeconfig, encoding="utf-8")
        manifest.write_text(yaml.safe_dump(static_scheduler()), encoding="utf-8")

        def holder() -> str:
            found = cluster.get_json("leases", "-n", "kube-system", "--ignore-not-found")
            held = [one["spec"] for one in found["items"] if one["metadata"]["name"] == LEASE]
            return str(held[0].get("holderIdentity") or "") if held else ""

        cluster.wait_for(lambda: holder().startswith(f"{NODE}_"), 120, "the static pod to lead")
        asks = from_node_cache("asks-for-a-gpu")
        asks["spec"]["schedulerName"] = "default-scheduler"
        asks["spec"]["containers"][0]["resources"]["limits"] = {GPU: "1"}
        without = from_node_cache("asks-for-none")
        without["spec"]["schedulerName"] = "default-scheduler"
        del without["spec"]["tolerations"]
        cluster.apply([asks, without], namespace)
        for name, decided in (("asks-for-a-gpu", True), ("asks-for-none", False)):
            serving(cluster, namespace, name)
            metadata = cluster.pod(namespace, name)["metadata"]
            assert ("modelcache.dev/decision" in metadata.get("annotations", {})) is decided
    finally:
        manifest.unlink(missing_ok=True)
        cluster.kubectl("delete", "-f", "-", "--ignore-not-found", input=workloads(text))
        advertise_gpus(cluster, 0)
        cluster.kubectl("label", "node", NODE, f"{CONTROL_PLANE}-")
        if not former.running():
            cluster.start_scheduler(name="default-scheduler")


def static_scheduler() -> Object:
    """Return the pod that kubeadm would write, with what kubeadm-patch.yaml adds to it."""
    patch = yaml.safe_load((ROOT / BESIDE / "kubeadm-patch.yaml").read_text(encoding="utf-8"))
    added = patch["scheduler"]
    mounted = [*added["extraVolumes"], SCHEDULER_CONF]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "kube-scheduler", "namespace": "kube-system"},
        "spec": {
            "hostNetwork": True,
            "priorityClassName": "system-node-critical",
            "containers": [
                {
                    "name": "kube-scheduler",
                    "image": SCHEDULER_IMAGE,
                    "command": [
                        "kube-scheduler",
                        f"--kubeconfig={KUBERNETES}/scheduler.conf",
                        *(f"--{one['name']}={one['value']}" for one in added["extraArgs"]),
                    ],
                    "volumeMounts": [
                        {key: one[key] for key in ("name", "mountPath", "readOnly")}
                        for one in mounted
                    ],
                }
            ],
            "volumes": [
                {
                    "name": one["name"],
                    "hostPath": {
                        "path": str(HOSTS / Path(one["hostPath"]).relative_to(KUBERNETES)),
                        "type": one["pathType"],
                    },
                }
                for one in mounted
            ],
        },
    }


def workloads(text: str) -> str:
    """Return those of an overlay's documents that run something, or let somebody reach it."""
    kinds = {"Deployment", "DaemonSet", "Service", "PodDisruptionBudget"}
    found = [each for each in yaml.safe_load_all(text) if each and each["kind"] in kinds]
    return yaml.safe_dump_all(found)
