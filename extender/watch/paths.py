"""Where single objects are in the API, and how they are patched."""

from __future__ import annotations

from urllib.parse import quote

MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
"""Headers of a PATCH whose body is merged into the object (RFC 7386)."""

METADATA = {"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}
"""Headers of a GET that asks for an object's metadata alone:
https://kubernetes.io/docs/reference/using-api/api-concepts/#metadata-only-fetches"""


def pods_path(namespace: str) -> str:
    """Return the path of the pods of a namespace."""
    return f"/api/v1/namespaces/{quote(namespace, safe='')}/pods"


def pod_path(namespace: str, name: str) -> str:
    """Return the path of a pod."""
    return f"{pods_path(namespace)}/{quote(name, safe='')}"


def claim_path(namespace: str, name: str) -> str:
    """Return the path of a PersistentVolumeClaim."""
    claims = f"/api/v1/namespaces/{quote(namespace, safe='')}/persistentvolumeclaims"
    return f"{claims}/{quote(name, safe='')}"


def volume_path(name: str) -> str:
    """Return the path of a PersistentVolume."""
    return f"/api/v1/persistentvolumes/{quote(name, safe='')}"


def node_path(name: str) -> str:
    """Return the path of a Node."""
    return f"/api/v1/nodes/{quote(name, safe='')}"


def leases_path(namespace: str) -> str:
    """Return the path of the Leases of a namespace."""
    return f"/apis/coordination.k8s.io/v1/namespaces/{quote(namespace, safe='')}/leases"


def lease_path(namespace: str, name: str) -> str:
    """Return the path of a Lease."""
    return f"{leases_path(namespace)}/{quote(name, safe='')}"
