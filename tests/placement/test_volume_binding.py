"""What kube-scheduler holds against nodes for a pod's claims, whatever is in them."""

from __future__ import annotations

from typing import Any

import pytest

from extender.cluster.state import ClusterState
from extender.kube.decode import convert
from extender.kube.objects import KubeObject, PersistentVolume, PersistentVolumeClaim, Pod
from extender.placement.in_tree import Objections
from extender.placement.objections import InTree, Objection
from extender.workload.constraints import Constraints, read_constraints
from extender.workload.manifest import parts_of
from tests.builders import claim, node, pod, storage_class, volume
from tests.placement.situations import ZONE

HERE = node("n", labels={ZONE: "a"})
MOUNTS: dict[str, Any] = {
    "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "model-store"}}]
}
PENDING: dict[str, Any] = {"phase": "Pending", "volumeName": "", "storageClassName": "late"}


def objections(asked: Constraints, *objects: KubeObject) -> Objections:
    state = ClusterState(clock=lambda: 0.0)
    for obj in objects:
        state.upsert(obj)
    return Objections(state.view(), state.pods(), asked, namespace="inference")


def refused(*objects: KubeObject, spec: dict[str, Any] = MOUNTS) -> Objection | None:
    return objections(read_constraints(spec), *objects).of({}, "n")


def deleted(found: PersistentVolumeClaim) -> PersistentVolumeClaim:
    metadata = {
        "name": found.metadata.name,
        "namespace": found.metadata.namespace,
        "deletionTimestamp": "2026-01-01T00:00:00Z",
    }
    return convert({"metadata": metadata, "status": {"phase": "Bound"}}, PersistentVolumeClaim)


def being_made_on(name: str) -> PersistentVolumeClaim:
    return claim(selected_node=name, **PENDING)


LOCAL = storage_class(provisioner="kubernetes.io/no-provisioner")
SIZED: dict[str, Any] = {
    **PENDING,
    "accessModes": ["ReadWriteOnce"],
    "resources": {"requests": {"storage": "100Gi"}},
}
FREE: dict[str, Any] = {
    "storageClassName": "late",
    "accessModes": ["ReadWriteOnce"],
    "capacity": {"storage": "100Gi"},
}
OTHERS = {"namespace": "inference", "name": "another"}

SAID: dict[str, tuple[tuple[KubeObject, ...], InTree | None, str]] = {
    "missing": ((), InTree.CLAIM_MISSING, "claim model-store does not exist"),
    "bound": ((claim(),), None, ""),
    "being deleted": (
        (deleted(claim()),), InTree.CLAIM_DELETED, "claim model-store is being deleted",
    ),
    "lost": (
        (claim(phase="Lost"),), InTree.CLAIM_NOT_BOUND, "claim model-store has lost its volume",
    ),
    "bound to a volume that is gone": (
        (claim(), volume("another")),
        InTree.CLAIM_NOT_BOUND, "claim model-store has lost its volume",
    ),
    "unbound, of a class that binds at once": (
        (claim(**PENDING), storage_class(mode="Immediate")),
        InTree.CLAIM_NOT_BOUND, "claim model-store is not bound",
    ),
    "unbound, meant for one volume": (
        (claim(**{**PENDING, "volumeName": "pv"}), storage_class()),
        InTree.CLAIM_NOT_BOUND, "claim model-store is not bound",
    ),
    "waiting for its first pod": ((claim(**PENDING), storage_class()), None, ""),
    "in the node's zone": ((claim(), volume(zone="a")), None, ""),
    "in another zone": (
        (claim(), volume(zone="b")),
        InTree.CLAIM_UNREACHABLE, "claim model-store cannot be mounted on the node",
    ),
    "labelled with the node's zone": ((claim(), volume(labels={ZONE: "c__a"})), None, ""),
    "labelled with another zone": (
        (claim(), volume(labels={ZONE: "b"})),
        InTree.CLAIM_UNREACHABLE, "claim model-store cannot be mounted on the node",
    ),
    "of a class that makes volumes elsewhere": (
        (claim(**PENDING), storage_class(zone="b")),
        InTree.CLAIM_UNREACHABLE, "claim model-store cannot be mounted on the node",
    ),
    "being made for this node": ((being_made_on("n"), storage_class()), None, ""),
    "being made for another node": (
        (being_made_on("m"), storage_class()),
        InTree.CLAIM_UNREACHABLE, "claim model-store cannot be mounted on the node",
    ),
    "local, with a free disk here": ((claim(**SIZED), LOCAL, volume(zone="a", **FREE)), None, ""),
    "local, with a disk of its own here": (
        (claim(**SIZED), LOCAL, volume(claimRef={**OTHERS, "name": "model-store"}, **FREE)),
        None, "",
    ),
    "local, with a free disk elsewhere": (
        (claim(**SIZED), LOCAL, volume(zone="b", **FREE)),
        InTree.CLAIM_UNREACHABLE, "claim model-store cannot be mounted on the node",
    ),
    "local, with a disk that is taken": (
        (claim(**SIZED), LOCAL, volume(claimRef=OTHERS, **FREE)),
        InTree.CLAIM_UNREACHABLE, "claim model-store cannot be mounted on the node",
    ),
    "local, with a disk that is too small": (
        (claim(**SIZED), LOCAL, volume(**{**FREE, "capacity": {"storage": "99Gi"}})),
        InTree.CLAIM_UNREACHABLE, "claim model-store cannot be mounted on the node",
    ),
    "local, with a disk of another kind": (
        (claim(**SIZED), LOCAL, volume(**{**FREE, "accessModes": ["ReadOnlyMany"]})),
        InTree.CLAIM_UNREACHABLE, "claim model-store cannot be mounted on the node",
    ),
}  # fmt: skip


@pytest.mark.parametrize("which", SAID)
def test_a_claim_refuses_a_node_where_it_is(which: str) -> None:
    objects, reason, text = SAID[which]
    objection = refused(HERE, *objects)
    assert (objection.reason, objection.text) == (reason, text) if objection else reason is None


def test_a_node_without_zones_takes_volumes_of_any() -> None:
    assert refused(node("n"), claim(), volume(labels={ZONE: "b"})) is None


def test_old_labels_of_volumes_are_read_with_new_ones_of_nodes() -> None:
    old = "failure-domain.beta.kubernetes.io/zone"
    objection = refused(HERE, claim(), volume(labels={old: "b"}))
    assert objection is not None
    assert objection.detail == "its volume pv-model-store is in zone b"


def test_a_class_that_does_not_exist_is_named() -> None:
    objection = refused(HERE, claim(**PENDING), storage_class("another"))
    assert objection is not None
    assert objection.detail == "its storage class late does not exist"


def test_what_keeps_it_from_all_nodes_comes_before_what_one_node_has_against_it() -> None:
    """kube-scheduler asks its plugins about the pod (PreFilter) before it looks at nodes."""
    cordoned = convert({"metadata": {"name": "n"}, "spec": {"unschedulable": True}}, type(HERE))
    missing = refused(cordoned)
    assert missing is not None
    assert missing.reason is InTree.CLAIM_MISSING
    elsewhere = refused(cordoned, claim(**SIZED), LOCAL)
    assert elsewhere is not None
    assert elsewhere.reason is InTree.CORDONED


def test_what_lacks_is_told_beside_a_cordon() -> None:
    cordoned = convert(
        {"metadata": {"name": "n"}, "spec": {"unschedulable": True}, "status": {"allocatable": {}}},
        type(HERE),
    )
    objection = objections(read_constraints({}), cordoned).of({"example.com/gpu": 2}, "n")
    assert objection is not None
    assert (objection.reason, objection.short) == (InTree.CORDONED, {"example.com/gpu": 2})
    assert not objection.is_shortage


def test_what_is_not_judged_of_claims_is_named() -> None:
    asked, single = read_constraints(MOUNTS), {**PENDING, "accessModes": ["ReadWriteOncePod"]}
    assert objections(asked, HERE, claim(**single), storage_class()).not_judged() == (
        "free storage for claim model-store",
    )
    assert objections(asked, HERE, claim(), volume(csi={"driver": "x"})).not_judged() == (
        "how many volumes a node's CSI driver attaches",
    )
    assert objections(asked, HERE, claim(), volume(nfs={"server": "x"})).not_judged() == ()
    assert objections(read_constraints({}), HERE).not_judged() == ()


# -- claims that other pods have ------------------------------------------------------------------

ONCE: dict[str, Any] = {"accessModes": ["ReadWriteOnce"]}
DISK = volume(csi={"driver": "x"}, **ONCE)
ALONE = claim(accessModes=["ReadWriteOncePod"])


def having(on: str, name: str = "other", **more: Any) -> Pod:
    """A pod with the claim on a node."""
    return pod(name, spec={**MOUNTS, "nodeName": on, "containers": []}, **more)


def test_a_claim_for_one_pod_is_refused_everywhere_while_another_one_has_it() -> None:
    for on in ("n", "m"):
        objection = refused(HERE, node("m"), ALONE, volume(), having(on))
        assert objection is not None
        assert objection.reason is InTree.CLAIM_IN_USE
        assert objection.detail == f"pod inference/other on {on}"


def test_who_waits_or_has_ended_or_is_of_another_namespace_has_no_claim() -> None:
    others = (
        having(""),
        having("m", "ended", status={"phase": "Succeeded"}),
        having("m", "far", namespace="elsewhere"),
    )
    assert refused(HERE, node("m"), ALONE, volume(), *others) is None


def test_a_pod_does_not_stand_in_its_own_way() -> None:
    state = ClusterState(clock=lambda: 0.0)
    own = having("n")
    for obj in (HERE, ALONE, volume(), own):
        state.upsert(obj)
    asked = read_constraints(MOUNTS)
    asking = Objections(
        state.view(), state.pods(), asked, namespace="inference", uid=own.metadata.uid
    )
    assert asking.of({}, "n") is None


@pytest.mark.parametrize(
    ("disk", "held"),
    [
        (DISK, True),
        (volume(csi={"driver": "x"}, accessModes=["ReadWriteOnce", "ReadOnlyMany"]), False),
        (volume(csi={"driver": "x"}, accessModes=["ReadWriteMany"]), False),
        (volume(nfs={"server": "x"}, **ONCE), False),  # nothing is attached
    ],
    ids=["one node", "many may read", "many", "no driver"],
)
def test_a_disk_is_attached_to_one_node_alone(disk: PersistentVolume, held: bool) -> None:
    """kube-scheduler does not look: it refuses no node for that."""
    asking = objections(read_constraints(MOUNTS), HERE, node("m"), claim(**ONCE), disk, having("m"))
    assert asking.of({}, "n") is None
    told = "claim model-store is attached to m, where pod inference/other has it"
    assert asking.elsewhere("n") == (told if held else "")
    assert asking.elsewhere("m") == ""


# -- a StatefulSet's own claims --------------------------------------------------------------------


def stateful_set(start: int = 0, **template: Any) -> Constraints:
    manifest = {
        "kind": "StatefulSet",
        "metadata": {"name": "llm", "namespace": "inference"},
        "spec": {
            "ordinals": {"start": start},
            "template": {"spec": {"containers": [{"name": "c"}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "models"}, "spec": template}],
        },
    }
    (part,) = parts_of(manifest)
    return part.asked


def test_a_claim_that_a_statefulset_makes_is_not_missing() -> None:
    asked = stateful_set(storageClassName="late")
    assert objections(asked, HERE, storage_class()).of({}, "n") is None
    assert objections(asked, HERE, storage_class(mode="Immediate")).of({}, "n") is None


def test_a_claim_that_a_statefulset_makes_has_to_find_a_volume() -> None:
    asked = stateful_set(storageClassName="late")
    elsewhere = objections(asked, HERE, storage_class(zone="b")).of({}, "n")
    assert elsewhere is not None
    assert elsewhere.text == "claim models-llm-0 cannot be mounted on the node"
    nowhere = objections(asked, HERE, storage_class("another")).of({}, "n")
    assert nowhere is not None
    assert nowhere.detail == "its storage class late does not exist"


def test_without_a_class_a_template_is_of_the_default_one() -> None:
    default = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    objection = objections(stateful_set(), HERE, storage_class(zone="b", metadata=default)).of(
        {}, "n"
    )
    assert objection is not None
    assert objection.reason is InTree.CLAIM_UNREACHABLE


def test_each_of_its_pods_has_a_claim_of_its_own() -> None:
    """The first pod's volume is in the node's zone, the second one's is not."""
    asked = stateful_set(start=5, storageClassName="late")
    objects = [
        HERE, storage_class(),
        claim("models-llm-5", volumeName="v5"), volume("v5", zone="a"),
        claim("models-llm-6", volumeName="v6"), volume("v6", zone="b"),
    ]  # fmt: skip
    judged = objections(asked, *objects)
    assert judged.of({}, "n", number=0) is None
    second = judged.of({}, "n", number=1)
    assert second is not None
    assert second.detail == f"its volume v6 is tied to {ZONE} In [b]"


def test_a_pod_that_writes_such_a_key_into_its_spec_gets_no_claims() -> None:
    spec = {"claimTemplates": {"claims": [{"metadata": {"name": "x"}}]}}
    assert objections(read_constraints(spec), HERE, pod()).of({}, "n") is None
