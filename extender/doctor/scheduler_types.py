"""KubeSchedulerConfiguration v1 with every key that kube-scheduler knows, and no other.

Sources, of kubernetes v1.37: staging/src/k8s.io/kube-scheduler/config/v1/types.go and
types_pluginargs.go, staging/src/k8s.io/component-base/config/v1alpha1/types.go. What is left out
has the value that kube-scheduler gives it (pkg/scheduler/apis/config/v1/defaults.go).
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

API_VERSION = "kubescheduler.config.k8s.io/v1"
KIND = "KubeSchedulerConfiguration"
DEFAULT_SCHEDULER = "default-scheduler"

Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Duration = Annotated[str, Meta(extra={"duration": True})]
"""A text such as ``1m30s`` (Go's ``time.ParseDuration``)."""
Base64 = Annotated[str, Meta(extra={"base64": True})]
"""Bytes as a text, which may be broken into lines."""


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of the parts of the document."""


class Tls(Part, frozen=True):
    """``extenders[].tlsConfig``."""

    insecure: bool = False
    ca_file: str = ""
    ca_data: Base64 = ""
    cert_file: str = ""
    cert_data: Base64 = ""
    key_file: str = ""
    key_data: Base64 = ""
    server_name: str = ""


class ManagedResource(Part, frozen=True):
    """``extenders[].managedResources[]``."""

    name: str = ""
    ignored_by_scheduler: bool = False


class ExtenderEntry(Part, frozen=True):
    """``extenders[]``. An empty ``http_timeout`` is one that is not set."""

    url_prefix: str = ""
    filter_verb: str = ""
    preempt_verb: str = ""
    prioritize_verb: str = ""
    bind_verb: str = ""
    weight: Int64 = 0
    enable_https: bool = msgspec.field(name="enableHTTPS", default=False)
    tls_config: Tls | None = None
    http_timeout: Duration = ""
    node_cache_capable: bool = False
    managed_resources: tuple[ManagedResource, ...] = ()
    ignorable: bool = False


class Plugin(Part, frozen=True):
    """``enabled[]`` or ``disabled[]`` of a set."""

    name: str = ""
    weight: Int32 = 0


class PluginSet(Part, frozen=True):
    """The plugins of one extension point."""

    enabled: tuple[Plugin, ...] = ()
    disabled: tuple[Plugin, ...] = ()


class Plugins(Part, frozen=True):
    """``profiles[].plugins``. The last three are newer than 1.35."""

    pre_enqueue: PluginSet = PluginSet()
    queue_sort: PluginSet = PluginSet()
    pre_filter: PluginSet = PluginSet()
    filter: PluginSet = PluginSet()
    post_filter: PluginSet = PluginSet()
    pre_score: PluginSet = PluginSet()
    score: PluginSet = PluginSet()
    reserve: PluginSet = PluginSet()
    permit: PluginSet = PluginSet()
    pre_bind: PluginSet = PluginSet()
    bind: PluginSet = PluginSet()
    post_bind: PluginSet = PluginSet()
    multi_point: PluginSet = PluginSet()
    placement_generate: PluginSet = PluginSet()
    placement_score: PluginSet = PluginSet()
    pod_group_post_filter: PluginSet = PluginSet()


class PluginConfig(Part, frozen=True):
    """``profiles[].pluginConfig[]``; its arguments are of the type that ``ARGUMENTS`` names."""

    name: str = ""
    args: Any = None


class Profile(Part, frozen=True):
    """``profiles[]``. A name is empty only where kube-scheduler refuses it."""

    scheduler_name: str = ""
    percentage_of_nodes_to_score: Int32 | None = None
    plugins: Plugins = Plugins()
    plugin_config: tuple[PluginConfig, ...] = ()


class LeaderElection(Part, frozen=True):
    """``leaderElection``; an empty text or a time of zero stands for the default."""

    leader_elect: bool = True
    lease_duration: Duration = "15s"
    renew_deadline: Duration = "10s"
    retry_period: Duration = "2s"
    resource_lock: str = "leases"
    resource_name: str = "kube-scheduler"
    resource_namespace: str = "kube-system"


class ClientConnection(Part, frozen=True):
    """``clientConnection``."""

    kubeconfig: str = ""
    accept_content_types: str = ""
    content_type: str = ""
    qps: float = 0.0
    burst: Int32 = 0


class SchedulerConfiguration(Part, frozen=True):
    """The document."""

    api_version: str = ""
    kind: str = ""
    parallelism: Int32 = 16
    leader_election: LeaderElection = LeaderElection()
    client_connection: ClientConnection = ClientConnection()
    enable_profiling: bool = True
    enable_contention_profiling: bool = True
    percentage_of_nodes_to_score: Int32 | None = None
    pod_initial_backoff_seconds: Int64 = 1
    pod_max_backoff_seconds: Int64 | None = None
    profiles: tuple[Profile, ...] = ()
    extenders: tuple[ExtenderEntry, ...] = ()
    delay_cache_until_active: bool = False

    @property
    def scheduler_names(self) -> list[str]:
        """Return the names under which pods come to this kube-scheduler."""
        return [profile.scheduler_name for profile in self.profiles if profile.scheduler_name]


# -- the arguments of plugins ----------------------------------------------------------------------


class Arguments(Part, frozen=True):
    """Base of ``pluginConfig[].args``, which may name their own kind."""

    api_version: str = ""
    kind: str = ""


class DefaultPreemptionArgs(Arguments, frozen=True):
    """How many nodes are tried for evictions: a share, and a number."""

    min_candidate_nodes_percentage: Int32 = 10
    min_candidate_nodes_absolute: Int32 = 100


class InterPodAffinityArgs(Arguments, frozen=True):
    """What a required affinity of another pod is worth."""

    hard_pod_affinity_weight: Int32 = 1
    ignore_preferred_terms_of_existing_pods: bool = False


class ResourceSpec(Part, frozen=True):
    """A weight of 0 stands for 1."""

    name: str = ""
    weight: Int64 = 0


class ShapePoint(Part, frozen=True):
    """One point of the line from a node's use to its score."""

    utilization: Int32 = 0
    score: Int32 = 0


class CapacityRatio(Part, frozen=True):
    """The line of strategy RequestedToCapacityRatio."""

    shape: tuple[ShapePoint, ...] = ()


class ScoringStrategy(Part, frozen=True):
    """How a node's free resources are scored."""

    type: str = ""
    resources: tuple[ResourceSpec, ...] = ()
    requested_to_capacity_ratio: CapacityRatio | None = None


class NodeResourcesFitArgs(Arguments, frozen=True):
    """Which resources count, and how a node is scored by them."""

    ignored_resources: tuple[str, ...] = ()
    ignored_resource_groups: tuple[str, ...] = ()
    scoring_strategy: ScoringStrategy | None = None


class BalancedAllocationArgs(Arguments, frozen=True):
    """The resources that are to be used evenly; each weighs 1."""

    resources: tuple[ResourceSpec, ...] = ()


class SpreadConstraint(Part, frozen=True):
    """``defaultConstraints[]``: a TopologySpreadConstraint, whose selector is each pod's own."""

    max_skew: Int32 = 0
    topology_key: str = ""
    when_unsatisfiable: str = ""
    label_selector: dict[str, Any] | None = None
    min_domains: Int32 | None = None
    node_affinity_policy: str | None = None
    node_taints_policy: str | None = None
    match_label_keys: tuple[str, ...] = ()


class PodTopologySpreadArgs(Arguments, frozen=True):
    """How pods are spread that say nothing of it."""

    default_constraints: tuple[SpreadConstraint, ...] = ()
    defaulting_type: str = ""


class VolumeBindingArgs(Arguments, frozen=True):
    """How long volumes are waited for, and how free room is scored."""

    bind_timeout_seconds: Int64 = 600
    shape: tuple[ShapePoint, ...] = ()


class DynamicResourcesArgs(Arguments, frozen=True):
    """How long devices are looked for, and waited for."""

    filter_timeout: Duration | None = None
    binding_timeout: Duration | None = None


class Requirement(Part, frozen=True):
    """One of ``matchExpressions`` or ``matchFields``."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


class SelectorTerm(Part, frozen=True):
    """Requirements of which all have to hold."""

    match_expressions: tuple[Requirement, ...] = ()
    match_fields: tuple[Requirement, ...] = ()


class Selector(Part, frozen=True):
    """Terms of which one has to hold."""

    node_selector_terms: tuple[SelectorTerm, ...] = ()


class Preference(Part, frozen=True):
    """A term with what it is worth."""

    weight: Int32 = 0
    preference: SelectorTerm = SelectorTerm()


class AddedAffinity(Part, frozen=True):
    """A NodeAffinity as in a pod."""

    required: Selector | None = msgspec.field(
        name="requiredDuringSchedulingIgnoredDuringExecution", default=None
    )
    preferred: tuple[Preference, ...] = msgspec.field(
        name="preferredDuringSchedulingIgnoredDuringExecution", default=()
    )


class NodeAffinityArgs(Arguments, frozen=True):
    """An affinity that every pod of the profile has."""

    added_affinity: AddedAffinity | None = None


ARGUMENTS: dict[str, type[Arguments]] = {
    "DefaultPreemption": DefaultPreemptionArgs,
    "DynamicResources": DynamicResourcesArgs,
    "InterPodAffinity": InterPodAffinityArgs,
    "NodeAffinity": NodeAffinityArgs,
    "NodeResourcesBalancedAllocation": BalancedAllocationArgs,
    "NodeResourcesFit": NodeResourcesFitArgs,
    "PodTopologySpread": PodTopologySpreadArgs,
    "VolumeBinding": VolumeBindingArgs,
}
"""The plugins that take arguments; those of others are read by nobody who is shipped."""
