"""Scheduler files that kube-scheduler starts with, and such that it refuses.

What doctor says of each is held against this table without a cluster; that the table is right is
held against the real kube-scheduler (tests/controlplane/test_scheduler_files.py).
"""

from __future__ import annotations

import copy
import json
from typing import Any

import yaml

from tests.deploy.manifests import ROOT, SHIPPED_CONFIG

SHIPPED = (ROOT / "config/scheduler-config.yaml").read_text(encoding="utf-8")
Step = str | int


def changed(path: tuple[Step, ...], value: Any) -> str:
    """The shipped file with one field changed, or added."""
    document: Any = copy.deepcopy(SHIPPED_CONFIG)
    inner = document
    for step in path[:-1]:
        inner = inner.setdefault(step, {}) if isinstance(inner, dict) else inner[step]
    inner[path[-1]] = value
    return yaml.safe_dump(document)


def profiles(*given: Any) -> str:
    return changed(("profiles",), list(given))


def plugins(**points: Any) -> str:
    """A profile with these plugins; an underscore at the end keeps a name from being Python's."""
    return profiles(
        {"schedulerName": "m", "plugins": {k.rstrip("_"): v for k, v in points.items()}}
    )


def arguments(name: str, args: Any) -> str:
    return profiles({"schedulerName": "m", "pluginConfig": [{"name": name, "args": args}]})


def enabled(*names: str) -> dict[str, Any]:
    return {"enabled": [{"name": name} for name in names]}


def spread(**constraint: Any) -> str:
    whole = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    constraints = [{**whole, **constraint}]
    return arguments(
        "PodTopologySpread", {"defaultingType": "List", "defaultConstraints": constraints}
    )


def added_affinity(**requirement: Any) -> str:
    terms = [{"matchExpressions": [requirement]}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return arguments("NodeAffinity", {"addedAffinity": required})


def scored(**strategy: Any) -> str:
    return arguments("NodeResourcesFit", {"scoringStrategy": strategy})


FIRST = ("extenders", 0)
OF_V1 = {"apiVersion": "kubescheduler.config.k8s.io/v1"}
GPU = {"name": "nvidia.com/gpu"}
LINE = [{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}]
ALL_OFF = {"disabled": [{"name": "*"}]}

ACCEPTED: dict[str, str] = {
    "the shipped file": SHIPPED,
    "as JSON": json.dumps(SHIPPED_CONFIG),
    "a whole number written as a fraction": changed((*FIRST, "weight"), 15.0),
    "nothing where a flag may stand": changed((*FIRST, "ignorable"), None),
    "nothing where an object may stand": changed(("leaderElection",), None),
    "no profiles": changed(("profiles",), []),
    "a profile that is nothing": changed(("profiles",), [None]),
    "one profile without a name": profiles({}),
    "a lock by its default": changed(("leaderElection", "resourceLock"), ""),
    "no election, whatever its times": changed(
        ("leaderElection",), {"leaderElect": False, "leaseDuration": "-1s", "resourceLock": "x"}
    ),
    "times of zero, which stand for the defaults": changed(
        ("leaderElection", "renewDeadline"), "0s"
    ),
    "a timeout with a sign and two parts": changed((*FIRST, "httpTimeout"), "+1m0.5s"),
    "all of a connection": changed(
        ("clientConnection",),
        {"kubeconfig": "", "acceptContentTypes": "", "contentType": "application/json",
         "qps": 0.5, "burst": 7},
    ),
    "a managed resource": changed((*FIRST, "managedResources"), [GPU]),
    "a key without its certificate, in lines": changed(
        (*FIRST, "tlsConfig"), {"keyData": "QUFB\nQUE=\n"}
    ),
    "every flag": changed(("enableProfiling",), value=False),
    "a plugin with a weight": plugins(score={"enabled": [{"name": "ImageLocality", "weight": 3}]}),
    "a plugin switched off": plugins(score={"disabled": [{"name": "NodeAffinity"}]}),
    "a plugin switched off that is none": plugins(
        filter=ALL_OFF, score={"disabled": [{"name": "x"}]}
    ),
    "another order of the same queue": plugins(
        queueSort={**ALL_OFF, **enabled("PrioritySort")},
        bind={**ALL_OFF, **enabled("DefaultBinder")},
    ),
    "all points but those that need a plugin": plugins(
        multiPoint=ALL_OFF, queueSort=enabled("PrioritySort"), bind=enabled("DefaultBinder")
    ),
    "arguments of nobody": arguments("Bogus", {"x": 1}),
    "arguments of a plugin that has none": arguments("ImageLocality", {"x": 1}),
    "arguments that are nothing": arguments("NodeResourcesFit", None),
    "arguments that name their kind": arguments(
        "NodeResourcesFit", {**OF_V1, "kind": "NodeResourcesFitArgs"}
    ),
    "a strategy": scored(type="MostAllocated", resources=[{"name": "cpu", "weight": 0}]),
    "a strategy with its line": scored(
        type="RequestedToCapacityRatio", requestedToCapacityRatio={"shape": LINE}
    ),
    "a spread": spread(matchLabelKeys=["x"], minDomains=2, nodeAffinityPolicy="Honor"),
    "an added affinity": added_affinity(key="x.y/z", operator="In", values=["a", "b"]),
    "an added affinity by number": added_affinity(key="z", operator="Gt", values=["5"]),
    "an added affinity of no terms": arguments(
        "NodeAffinity",
        {"addedAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}},
    ),
    "preemption": arguments("DefaultPreemption", {"minCandidateNodesPercentage": 0}),
    "times of devices": arguments("DynamicResources", {"filterTimeout": None}),
}  # fmt: skip
"""What kube-scheduler starts with."""

REFUSED: dict[str, tuple[str, str]] = {
    # -- keys
    "an unknown key": (changed(("algorithmSource",), {}), "algorithmSource"),
    "a key in another case": (changed(("Parallelism",), 3), "Parallelism"),
    "metadata": (changed(("metadata",), {"name": "x"}), "metadata"),
    "an unknown key of the election": (
        changed(("leaderElection", "leaderElct"), value=True), "leaderElection.leaderElct"
    ),
    "an unknown key of a profile": (changed(("profiles", 0, "bogus"), 1), "profiles[0].bogus"),
    "an unknown key of an extender": (
        changed((*FIRST, "ignoreable"), 1), "extenders[0].ignoreable"
    ),
    "an unknown key of its TLS": (
        changed((*FIRST, "tlsConfig"), {"caFil": "x"}), "extenders[0].tlsConfig.caFil"
    ),
    "an unknown key of a managed resource": (
        changed((*FIRST, "managedResources"), [{**GPU, "ignored": True}]),
        "extenders[0].managedResources[0].ignored",
    ),
    "an unknown key of the connection": (
        changed(("clientConnection", "kubeconfg"), "x"), "clientConnection.kubeconfg"
    ),
    "an unknown extension point": (plugins(scor={}), "profiles[0].plugins.scor"),
    "an unknown key of a plugin": (
        plugins(score={"enabled": [{"name": "NodeAffinity", "weigth": 1}]}),
        "profiles[0].plugins.score.enabled[0].weigth",
    ),
    "an unknown argument": (
        arguments("NodeResourcesFit", {"bogus": 1}), "profiles[0].pluginConfig[0].args.bogus"
    ),
    "an unknown key deep in an argument": (
        spread(bogus=1), "profiles[0].pluginConfig[0].args.defaultConstraints[0].bogus"
    ),
    "an unknown key of an affinity": (
        arguments("NodeAffinity", {"addedAffinity": {"bogus": 1}}),
        "profiles[0].pluginConfig[0].args.addedAffinity.bogus",
    ),
    "a key twice": (SHIPPED + "\nparallelism: 3\nparallelism: 4\n", "parallelism"),
    "a key twice in an object": (
        SHIPPED.replace("weight: 15", "weight: 15\n    weight: 16"), "extenders[0].weight"
    ),
    # -- versions and documents
    "an old version": (
        changed(("apiVersion",), "kubescheduler.config.k8s.io/v1beta3"), "apiVersion"
    ),
    "no version": (changed(("apiVersion",), None), "apiVersion"),
    "not the first document": ("kind: Pod\napiVersion: v1\n---\n" + SHIPPED, ""),
    "behind an empty document": ("---\n---\n" + SHIPPED, ""),
    "YAML that looks like JSON": (yaml.safe_dump(SHIPPED_CONFIG, default_flow_style=True), ""),
    # -- types
    "a text for a number": (changed((*FIRST, "weight"), "15"), "extenders[0].weight"),
    "a fraction for a number": (changed(("podMaxBackoffSeconds",), 1.5), "podMaxBackoffSeconds"),
    "a flag for a number": (changed((*FIRST, "weight"), value=True), "extenders[0].weight"),
    "a number too large": (changed((*FIRST, "weight"), 2**63), "extenders[0].weight"),
    "a number too large for 32 bits": (changed(("parallelism",), 2**31), "parallelism"),
    "a text for a flag": (changed((*FIRST, "ignorable"), "no"), "extenders[0].ignorable"),
    "a number for a flag": (changed(("delayCacheUntilActive",), 1), "delayCacheUntilActive"),
    "a text for the election": (
        changed(("leaderElection", "leaderElect"), "true"), "leaderElection.leaderElect"
    ),
    "a number for a text": (changed((*FIRST, "urlPrefix"), 5), "extenders[0].urlPrefix"),
    "a number for a name": (profiles({"schedulerName": 1}), "profiles[0].schedulerName"),
    "a text for a fraction": (changed(("clientConnection",), {"qps": "5"}), "clientConnection.qps"),
    "an object for a list": (changed(("profiles",), {"a": 1}), "profiles"),
    "a text for a profile": (profiles("x"), "profiles[0]"),
    "a text for a resource": (
        changed((*FIRST, "managedResources"), ["nvidia.com/gpu"]),
        "extenders[0].managedResources[0]",
    ),
    "a number for a duration": (changed((*FIRST, "httpTimeout"), 5), "extenders[0].httpTimeout"),
    "a duration without its unit": (
        changed((*FIRST, "httpTimeout"), "5"), "extenders[0].httpTimeout"
    ),
    "an empty duration": (changed((*FIRST, "httpTimeout"), ""), "extenders[0].httpTimeout"),
    "nothing for a duration": (changed((*FIRST, "httpTimeout"), None), "extenders[0].httpTimeout"),
    "a duration of centuries": (
        changed((*FIRST, "httpTimeout"), "3000000h"), "extenders[0].httpTimeout"
    ),
    "a CA that is no base64": (
        changed((*FIRST, "tlsConfig"), {"caData": "%%%"}), "extenders[0].tlsConfig.caData"
    ),
    "a list of arguments": (
        arguments("NodeResourcesFit", []), "profiles[0].pluginConfig[0].args"
    ),
    "arguments of another plugin": (
        arguments("NodeResourcesFit", {**OF_V1, "kind": "VolumeBindingArgs"}),
        "profiles[0].pluginConfig[0].args.kind",
    ),
    # -- values
    "no parallelism": (changed(("parallelism",), 0), "parallelism"),
    "more than all nodes": (
        changed(("percentageOfNodesToScore",), 150), "percentageOfNodesToScore"
    ),
    "fewer than no nodes, in a profile": (
        changed(("profiles", 0, "percentageOfNodesToScore"), -1),
        "profiles[0].percentageOfNodesToScore",
    ),
    "a negative burst": (changed(("clientConnection",), {"burst": -1}), "clientConnection.burst"),
    "a Lease shorter than its deadline": (
        changed(("leaderElection", "leaseDuration"), "5s"), "leaderElection.leaseDuration"
    ),
    "a Lease of negative length": (
        changed(("leaderElection", "leaseDuration"), "-5s"), "leaderElection.leaseDuration"
    ),
    "a negative retry": (
        changed(("leaderElection", "retryPeriod"), "-1s"), "leaderElection.retryPeriod"
    ),
    "an old lock": (
        changed(("leaderElection", "resourceLock"), "endpoints"), "leaderElection.resourceLock"
    ),
    "no back-off": (changed(("podInitialBackoffSeconds",), 0), "podInitialBackoffSeconds"),
    "a back-off that ends first": (changed(("podMaxBackoffSeconds",), 0), "podMaxBackoffSeconds"),
    "an empty name": (profiles({"schedulerName": ""}), "profiles[0].schedulerName"),
    "a second profile without a name": (
        profiles({"schedulerName": "a"}, {}), "profiles[1].schedulerName"
    ),
    "a name twice": (
        profiles({"schedulerName": "a"}, {"schedulerName": "a"}), "profiles[1].schedulerName"
    ),
    "two queues": (
        profiles({"schedulerName": "a"},
                 {"schedulerName": "b", "plugins": {"queueSort": enabled("PrioritySort")}}),
        "profiles[1].plugins.queueSort",
    ),
    "no weight": (changed((*FIRST, "weight"), None), "extenders[0].weight"),
    "a negative weight": (changed((*FIRST, "weight"), -1), "extenders[0].weight"),
    "two that bind": (
        changed(("extenders",), SHIPPED_CONFIG["extenders"] * 2), "extenders[1].bindVerb"
    ),
    "a resource of Kubernetes' own": (
        changed((*FIRST, "managedResources"), [{"name": "cpu"}]),
        "extenders[0].managedResources[0].name",
    ),
    "a resource without a name": (
        changed((*FIRST, "managedResources"), [{}]), "extenders[0].managedResources[0].name"
    ),
    "a resource of a quota": (
        changed((*FIRST, "managedResources"), [{"name": "requests.x/y"}]),
        "extenders[0].managedResources[0].name",
    ),
    "a resource twice": (
        changed((*FIRST, "managedResources"), [GPU, GPU]), "extenders[0].managedResources[1].name"
    ),
    "a CA that is no PEM": (
        changed((*FIRST, "tlsConfig"), {"caData": "QQ=="}), "extenders[0].tlsConfig.caData"
    ),
    "a CA that is not to be looked at": (
        changed((*FIRST, "tlsConfig"), {"insecure": True, "caFile": "/x"}),
        "extenders[0].tlsConfig.insecure",
    ),
    # -- plugins
    "a plugin twice": (
        plugins(score=enabled("NodeAffinity", "NodeAffinity")),
        "profiles[0].plugins.score.enabled[1].name",
    ),
    "a plugin at a point that it has no part in": (
        plugins(score=enabled("NodeName")), "profiles[0].plugins.score.enabled[0].name"
    ),
    "a plugin that is gone": (
        plugins(filter=enabled("EBSLimits")), "profiles[0].plugins.filter.enabled[0].name"
    ),
    "a plugin of negative weight": (
        plugins(score={"enabled": [{"name": "NodeAffinity", "weight": -1}]}),
        "profiles[0].plugins.score.enabled[0].weight",
    ),
    "nobody binds": (plugins(bind=ALL_OFF), "profiles[0].plugins.bind"),
    "nobody orders the queue": (plugins(multiPoint=ALL_OFF), "profiles[0].plugins.queueSort"),
    "two order the queue": (
        plugins(queueSort=enabled("PrioritySort", "NodeName")),
        "profiles[0].plugins.queueSort.enabled",
    ),
    "arguments twice": (
        profiles({"schedulerName": "a", "pluginConfig": [{"name": "VolumeBinding"}] * 2}),
        "profiles[0].pluginConfig[1].name",
    ),
    "arguments of a plugin that is gone": (
        arguments("EBSLimits", {}), "profiles[0].pluginConfig[0].name"
    ),
    "a weight of 200": (
        scored(type="LeastAllocated", resources=[{"name": "cpu", "weight": 200}]),
        "profiles[0].pluginConfig[0].args.scoringStrategy.resources[0].weight",
    ),
    "a strategy that is none": (
        scored(type="x"), "profiles[0].pluginConfig[0].args.scoringStrategy.type"
    ),
    "a strategy without its line": (
        scored(type="RequestedToCapacityRatio"),
        "profiles[0].pluginConfig[0].args.scoringStrategy.requestedToCapacityRatio.shape",
    ),
    "a line that another strategy has": (
        scored(type="LeastAllocated", requestedToCapacityRatio={}),
        "profiles[0].pluginConfig[0].args.scoringStrategy.requestedToCapacityRatio",
    ),
    "a line that goes back": (
        scored(type="RequestedToCapacityRatio", requestedToCapacityRatio={"shape": LINE[::-1]}),
        "profiles[0].pluginConfig[0].args.scoringStrategy.requestedToCapacityRatio.shape[1]"
        ".utilization",
    ),
    "a line to score 11": (
        scored(
            type="RequestedToCapacityRatio",
            requestedToCapacityRatio={"shape": [{"utilization": 0, "score": 11}]},
        ),
        "profiles[0].pluginConfig[0].args.scoringStrategy.requestedToCapacityRatio.shape[0].score",
    ),
    "an ignored resource that is no name": (
        arguments("NodeResourcesFit", {"ignoredResources": ["a b"]}),
        "profiles[0].pluginConfig[0].args.ignoredResources[0]",
    ),
    "an ignored resource that is nothing": (
        arguments("NodeResourcesFit", {"ignoredResources": [None]}),
        "profiles[0].pluginConfig[0].args.ignoredResources[0]",
    ),
    "an ignored group with its resource": (
        arguments("NodeResourcesFit", {"ignoredResourceGroups": ["a/b"]}),
        "profiles[0].pluginConfig[0].args.ignoredResourceGroups[0]",
    ),
    "balance by weight": (
        arguments("NodeResourcesBalancedAllocation", {"resources": [{"name": "cpu", "weight": 2}]}),
        "profiles[0].pluginConfig[0].args.resources[0].weight",
    ),
    "balance of one resource twice": (
        arguments("NodeResourcesBalancedAllocation", {"resources": [{"name": "cpu"}] * 2}),
        "profiles[0].pluginConfig[0].args.resources[1].name",
    ),
    "more than all candidates": (
        arguments("DefaultPreemption", {"minCandidateNodesPercentage": 101}),
        "profiles[0].pluginConfig[0].args.minCandidateNodesPercentage",
    ),
    "no candidates": (
        arguments(
            "DefaultPreemption", {"minCandidateNodesPercentage": 0, "minCandidateNodesAbsolute": 0}
        ),
        "profiles[0].pluginConfig[0].args.minCandidateNodesPercentage",
    ),
    "an affinity of 101": (
        arguments("InterPodAffinity", {"hardPodAffinityWeight": 101}),
        "profiles[0].pluginConfig[0].args.hardPodAffinityWeight",
    ),
    "a negative wait for volumes": (
        arguments("VolumeBinding", {"bindTimeoutSeconds": -1}),
        "profiles[0].pluginConfig[0].args.bindTimeoutSeconds",
    ),
    "constraints beside the system's": (
        arguments("PodTopologySpread", {"defaultConstraints": [
            {"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "ScheduleAnyway"}]}),
        "profiles[0].pluginConfig[0].args.defaultingType",
    ),
    "no skew": (
        spread(maxSkew=0), "profiles[0].pluginConfig[0].args.defaultConstraints[0].maxSkew"
    ),
    "a spread over nothing": (
        spread(topologyKey=""), "profiles[0].pluginConfig[0].args.defaultConstraints[0].topologyKey"
    ),
    "a spread with a selector": (
        spread(labelSelector={}),
        "profiles[0].pluginConfig[0].args.defaultConstraints[0].labelSelector",
    ),
    "an operator that is none": (
        added_affinity(key="a", operator="Is"),
        "profiles[0].pluginConfig[0].args.addedAffinity"
        ".requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0]"
        ".operator",
    ),
    "a number that is negative": (
        added_affinity(key="a", operator="Lt", values=["-5"]),
        "profiles[0].pluginConfig[0].args.addedAffinity"
        ".requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0]"
        ".values",
    ),
    "an operator without its values": (
        added_affinity(key="a", operator="In"),
        "profiles[0].pluginConfig[0].args.addedAffinity"
        ".requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0]"
        ".values",
    ),
}  # fmt: skip
"""What kube-scheduler refuses, with the field that is to be mended."""

FULL = yaml.safe_dump(
    {
        **SHIPPED_CONFIG,
        "parallelism": 16,
        "clientConnection": {"contentType": "", "qps": 50.0, "burst": 100},
        "leaderElection": {
            **SHIPPED_CONFIG["leaderElection"],
            "leaseDuration": "15s", "renewDeadline": "10s", "retryPeriod": "2s",
        },
        "enableProfiling": True,
        "delayCacheUntilActive": False,
        "extenders": [
            {
                **SHIPPED_CONFIG["extenders"][0],
                "managedResources": [{**GPU, "ignoredByScheduler": False}],
                "tlsConfig": {"insecure": False, "serverName": "x"},
            }
        ],
        "profiles": [
            {
                "schedulerName": "m",
                "percentageOfNodesToScore": 100,
                "plugins": {
                    "score": {"enabled": [{"name": "ImageLocality", "weight": 3}]},
                    "filter": {"disabled": [{"name": "NodeName"}]},
                },
                "pluginConfig": [
                    {"name": "NodeResourcesFit", "args": {
                        "ignoredResources": ["x.y/z"],
                        "ignoredResourceGroups": ["x.y"],
                        "scoringStrategy": {
                            "type": "RequestedToCapacityRatio",
                            "resources": [{"name": "cpu", "weight": 5}],
                            "requestedToCapacityRatio": {"shape": LINE},
                        },
                    }},
                    {"name": "DefaultPreemption", "args": {
                        "minCandidateNodesPercentage": 10, "minCandidateNodesAbsolute": 100,
                    }},
                    {"name": "InterPodAffinity", "args": {
                        "hardPodAffinityWeight": 1, "ignorePreferredTermsOfExistingPods": False,
                    }},
                    {"name": "NodeResourcesBalancedAllocation", "args": {
                        "resources": [{"name": "cpu", "weight": 1}],
                    }},
                    {"name": "PodTopologySpread", "args": {
                        "defaultingType": "List",
                        "defaultConstraints": [{
                            "maxSkew": 1, "topologyKey": "zone",
                            "whenUnsatisfiable": "ScheduleAnyway", "minDomains": 2,
                            "nodeAffinityPolicy": "Honor", "matchLabelKeys": ["x"],
                        }],
                    }},
                    {"name": "VolumeBinding", "args": {"bindTimeoutSeconds": 600, "shape": LINE}},
                    {"name": "DynamicResources", "args": {
                        "filterTimeout": "5s", "bindingTimeout": "10s",
                    }},
                    {"name": "NodeAffinity", "args": {"addedAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{
                            "matchExpressions": [
                                {"key": "x.y/z", "operator": "In", "values": ["a", "b"]},
                                {"key": "z", "operator": "Gt", "values": ["5"]},
                                {"key": "z", "operator": "Exists"},
                            ],
                            "matchFields": [
                                {"key": "metadata.name", "operator": "In", "values": ["a"]}
                            ],
                        }]},
                        "preferredDuringSchedulingIgnoredDuringExecution": [{
                            "weight": 5,
                            "preference": {"matchExpressions": [
                                {"key": "z", "operator": "NotIn", "values": ["a"]}
                            ]},
                        }],
                    }}},
                ],
            }
        ],
    }
)  # fmt: skip
"""A file that has nearly every field."""

ACCEPTED["every field"] = FULL
