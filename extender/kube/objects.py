"""Narrow typed Kubernetes objects: only the fields that a decision reads.

Field names follow the API (camelCase on the wire). Unknown fields are skipped while decoding, which
is what keeps 100,000 pods small. Lists are tuples and structs are frozen: an object that has been
decoded is never changed. ``gc=False`` keeps them out of the garbage collector's walk; nothing here
refers back to its parent, so there are no cycles to collect.
"""

from __future__ import annotations

import msgspec

Quantity = str | int | float
Resources = dict[str, Quantity]


class KubeStruct(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """Base of all API structs."""


class OwnerReference(KubeStruct, frozen=True):
    """``metadata.ownerReferences[]``."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class ObjectMeta(KubeStruct, frozen=True):
    """``metadata``. Times are RFC 3339 texts as the API sends them."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    creation_timestamp: str = ""
    deletion_timestamp: str = ""

    def controller(self) -> OwnerReference | None:
        """Return the owner that controls this object, if it has one."""
        return next((owner for owner in self.owner_references if owner.controller), None)


class FieldRef(KubeStruct, frozen=True):
    """``valueFrom.fieldRef``."""

    field_path: str = ""


class KeyRef(KubeStruct, frozen=True):
    """``configMapKeyRef`` or ``secretKeyRef``: only that it is one matters here."""

    name: str = ""
    key: str = ""


class EnvVarSource(KubeStruct, frozen=True):
    """``env[].valueFrom``."""

    field_ref: FieldRef | None = None
    config_map_key_ref: KeyRef | None = None
    secret_key_ref: KeyRef | None = None


class EnvVar(KubeStruct, frozen=True):
    """``env[]``."""

    name: str = ""
    value: str = ""
    value_from: EnvVarSource | None = None


class EnvFromRef(KubeStruct, frozen=True):
    """The object that an ``envFrom[]`` entry names."""

    name: str = ""


class EnvFrom(KubeStruct, frozen=True):
    """``envFrom[]``: its variables are set but cannot be read here."""

    prefix: str = ""
    config_map_ref: EnvFromRef | None = None
    secret_ref: EnvFromRef | None = None


class VolumeMount(KubeStruct, frozen=True):
    """``volumeMounts[]``."""

    name: str = ""
    mount_path: str = ""
    sub_path: str = ""
    sub_path_expr: str = ""
    read_only: bool = False


class ResourceRequirements(KubeStruct, frozen=True):
    """``resources`` of a container or a pod."""

    requests: Resources = {}
    limits: Resources = {}


class Probe(KubeStruct, frozen=True):
    """``readinessProbe`` and ``startupProbe``: only whether there is one matters here."""


class ExecAction(KubeStruct, frozen=True):
    """``exec`` of a lifecycle handler."""

    command: tuple[str, ...] = ()


class LifecycleHandler(KubeStruct, frozen=True):
    """``lifecycle.postStart``: only what it runs in the container matters here."""

    exec: ExecAction | None = None


class Lifecycle(KubeStruct, frozen=True):
    """``lifecycle`` of a container."""

    post_start: LifecycleHandler | None = None


class Container(KubeStruct, frozen=True):
    """``containers[]`` and ``initContainers[]``."""

    name: str = ""
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFrom, ...] = ()
    volume_mounts: tuple[VolumeMount, ...] = ()
    resources: ResourceRequirements = ResourceRequirements()
    restart_policy: str = ""
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle | None = None


class HostPathSource(KubeStruct, frozen=True):
    """``volumes[].hostPath``."""

    path: str = ""
    type: str = ""


class EmptyDirSource(KubeStruct, frozen=True):
    """``volumes[].emptyDir``."""

    medium: str = ""
    size_limit: Quantity | None = None


class ClaimSource(KubeStruct, frozen=True):
    """``volumes[].persistentVolumeClaim``."""

    claim_name: str = ""
    read_only: bool = False


class ImageSource(KubeStruct, frozen=True):
    """``volumes[].image`` (an OCI image mounted as a volume)."""

    reference: str = ""
    pull_policy: str = ""


class EphemeralSource(KubeStruct, frozen=True):
    """``volumes[].ephemeral``: a claim made for this pod alone."""


class Volume(KubeStruct, frozen=True):
    """``volumes[]``; sources that hold no model (config maps, secrets) are not kept."""

    name: str = ""
    host_path: HostPathSource | None = None
    empty_dir: EmptyDirSource | None = None
    persistent_volume_claim: ClaimSource | None = None
    image: ImageSource | None = None
    ephemeral: EphemeralSource | None = None


class SchedulingGroup(KubeStruct, frozen=True):
    """``spec.schedulingGroup``: only that the pod is placed as part of a gang matters here."""


class Preference(KubeStruct, frozen=True):
    """A preferred term of an affinity: only that there is one matters here."""


class Preferences(KubeStruct, frozen=True):
    """What one kind of affinity prefers."""

    preferred_during_scheduling_ignored_during_execution: tuple[Preference, ...] = ()


class Affinity(KubeStruct, frozen=True):
    """``spec.affinity``: what it requires is judged by kube-scheduler, before it asks."""

    node_affinity: Preferences = Preferences()
    pod_affinity: Preferences = Preferences()
    pod_anti_affinity: Preferences = Preferences()


class SpreadConstraint(KubeStruct, frozen=True):
    """``spec.topologySpreadConstraints[]``: only whether it has to be satisfied matters here."""

    when_unsatisfiable: str = ""


class SchedulingGate(KubeStruct, frozen=True):
    """``spec.schedulingGates[]``: only that there is one matters here."""


class PodSpec(KubeStruct, frozen=True):
    """``spec`` of a pod or of a pod template."""

    node_name: str = ""
    scheduler_name: str = ""
    priority: int | None = None
    preemption_policy: str = ""
    restart_policy: str = ""
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    resources: ResourceRequirements | None = None
    overhead: Resources = {}
    node_selector: dict[str, str] = {}
    affinity: Affinity = Affinity()
    topology_spread_constraints: tuple[SpreadConstraint, ...] = ()
    scheduling_group: SchedulingGroup | None = None
    scheduling_gates: tuple[SchedulingGate, ...] = ()


class ContainerStateTerminated(KubeStruct, frozen=True):
    """``state.terminated``."""

    exit_code: int = 0
    reason: str = ""
    message: str = ""


class ContainerStateWaiting(KubeStruct, frozen=True):
    """``state.waiting``."""

    reason: str = ""
    message: str = ""


class ContainerState(KubeStruct, frozen=True):
    """``containerStatuses[].state``."""

    waiting: ContainerStateWaiting | None = None
    terminated: ContainerStateTerminated | None = None
    running: dict[str, str] | None = None


class ContainerStatus(KubeStruct, frozen=True):
    """``containerStatuses[]``: state, and the resources really given (in-place resize)."""

    name: str = ""
    ready: bool = False
    started: bool | None = None
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()
    allocated_resources: Resources = {}
    resources: ResourceRequirements | None = None


class Condition(KubeStruct, frozen=True):
    """``status.conditions[]``."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""
    observed_generation: int = 0


class PodStatus(KubeStruct, frozen=True):
    """``status`` of a pod."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    nominated_node_name: str = ""
    start_time: str = ""
    resize: str = ""
    allocated_resources: Resources = {}
    resources: ResourceRequirements | None = None


class KubeObject(KubeStruct, frozen=True):
    """An object with metadata."""

    metadata: ObjectMeta = ObjectMeta()


class Pod(KubeObject, frozen=True):
    """``v1 Pod``."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class PodTemplate(KubeStruct, frozen=True):
    """``spec.template`` of a workload."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()


class NodeImage(KubeStruct, frozen=True):
    """``status.images[]``."""

    names: tuple[str, ...] = ()
    size_bytes: int = 0


class Taint(KubeStruct, frozen=True):
    """``spec.taints[]``."""

    key: str = ""
    value: str = ""
    effect: str = ""


class NodeSpec(KubeStruct, frozen=True):
    """``spec`` of a node."""

    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class NodeStatus(KubeStruct, frozen=True):
    """``status`` of a node."""

    capacity: Resources = {}
    allocatable: Resources = {}
    images: tuple[NodeImage, ...] = ()
    conditions: tuple[Condition, ...] = ()


class Node(KubeObject, frozen=True):
    """``v1 Node``."""

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class DaemonSetSpec(KubeStruct, frozen=True):
    """``spec`` of a DaemonSet."""

    template: PodTemplate = PodTemplate()


class DaemonSet(KubeObject, frozen=True):
    """``apps/v1 DaemonSet``."""

    spec: DaemonSetSpec = DaemonSetSpec()


class JobSpec(KubeStruct, frozen=True):
    """``spec`` of a Job."""

    template: PodTemplate = PodTemplate()


class JobStatus(KubeStruct, frozen=True):
    """``status`` of a Job."""

    active: int = 0
    succeeded: int = 0
    failed: int = 0
    conditions: tuple[Condition, ...] = ()


class Job(KubeObject, frozen=True):
    """``batch/v1 Job``."""

    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()


class ClaimSpec(KubeStruct, frozen=True):
    """``spec`` of a PersistentVolumeClaim."""

    volume_name: str = ""
    storage_class_name: str | None = None
    access_modes: tuple[str, ...] = ()
    resources: ResourceRequirements = ResourceRequirements()
    data_source: dict[str, object] | None = None
    data_source_ref: dict[str, object] | None = None


class ClaimStatus(KubeStruct, frozen=True):
    """``status`` of a PersistentVolumeClaim."""

    phase: str = ""
    capacity: Resources = {}


class PersistentVolumeClaim(KubeObject, frozen=True):
    """``v1 PersistentVolumeClaim``."""

    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()


class SelectorRequirement(KubeStruct, frozen=True):
    """One ``matchExpressions[]`` or ``matchLabelExpressions[]`` entry."""

    key: str = ""
    operator: str = "In"
    values: tuple[str, ...] = ()


class NodeSelectorTerm(KubeStruct, frozen=True):
    """``nodeSelectorTerms[]``: all requirements must hold."""

    match_expressions: tuple[SelectorRequirement, ...] = ()
    match_fields: tuple[SelectorRequirement, ...] = ()


class NodeSelector(KubeStruct, frozen=True):
    """``nodeAffinity.required``: any term may hold."""

    node_selector_terms: tuple[NodeSelectorTerm, ...] = ()


class VolumeNodeAffinity(KubeStruct, frozen=True):
    """``spec.nodeAffinity`` of a PersistentVolume."""

    required: NodeSelector | None = None


class LocalSource(KubeStruct, frozen=True):
    """``spec.local`` of a PersistentVolume: a directory or a disk of one node."""

    path: str = ""


class ClaimRef(KubeStruct, frozen=True):
    """``spec.claimRef`` of a PersistentVolume: the claim that it is for."""

    namespace: str = ""
    name: str = ""


class CsiSource(KubeStruct, frozen=True):
    """``spec.csi`` of a PersistentVolume: only that it is one matters here."""


class VolumeSpec(KubeStruct, frozen=True):
    """``spec`` of a PersistentVolume; of its sources those that decide where it can be."""

    node_affinity: VolumeNodeAffinity | None = None
    storage_class_name: str = ""
    access_modes: tuple[str, ...] = ()
    capacity: Resources = {}
    claim_ref: ClaimRef | None = None
    host_path: HostPathSource | None = None
    local: LocalSource | None = None
    csi: CsiSource | None = None


class PersistentVolume(KubeObject, frozen=True):
    """``v1 PersistentVolume``."""

    spec: VolumeSpec = VolumeSpec()


class TopologySelectorTerm(KubeStruct, frozen=True):
    """``allowedTopologies[]`` of a StorageClass."""

    match_label_expressions: tuple[SelectorRequirement, ...] = ()


class StorageClass(KubeObject, frozen=True):
    """``storage.k8s.io/v1 StorageClass``."""

    provisioner: str = ""
    volume_binding_mode: str = "Immediate"
    allowed_topologies: tuple[TopologySelectorTerm, ...] = ()


class Namespace(KubeObject, frozen=True):
    """``v1 Namespace``."""


class LeaseSpec(KubeStruct, frozen=True):
    """``spec`` of a Lease. Times are RFC 3339 texts; client-go's leaders hold theirs for 15 s."""

    holder_identity: str = ""
    acquire_time: str = ""
    renew_time: str = ""
    lease_transitions: int = 0
    lease_duration_seconds: int = 15


class Lease(KubeObject, frozen=True):
    """``coordination.k8s.io/v1 Lease``."""

    spec: LeaseSpec = LeaseSpec()
