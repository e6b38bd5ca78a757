"""Every trap of a scheduler configuration: the bad form is found at its line, the mended is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from extender.config import load_configuration, read_configuration
from extender.doctor.finding import Finding, Severity
from extender.doctor.scheduler import check_scheduler, feasible_nodes
from extender.doctor.scheduler_entry import Setting
from extender.doctor.scheduler_file import read_scheduler_file
from tests.deploy.manifests import (
    EXISTING_SCHEDULER,
    ROOT,
    SCHEDULER_CONFIGS,
    SHIPPED_CONFIG,
    TWO_DEPLOYMENTS,
    Manifest,
    named,
)

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
SETTING = Setting(bind_seconds=4.5, nodes=5000)
Object = dict[str, Any]


def shipped(**changes: Any) -> Object:
    """The shipped document; ``extender`` changes its one entry, None takes a key out."""
    document: Object = yaml.safe_load(yaml.safe_dump(SHIPPED_CONFIG))
    for target, change in (
        (document["extenders"][0], changes.pop("extender", {})),
        (document, changes),
    ):
        for key, value in change.items():
            if value is None:
                target.pop(key, None)
            else:
                target[key] = value
    return document


def findings(document: Any, setting: Setting = SETTING) -> list[Finding]:
    text = document if isinstance(document, bytes) else yaml.safe_dump(document).encode()
    file, broken = read_scheduler_file("F", text)
    return broken + (list(check_scheduler(file, setting)) if file is not None else [])


def checks(document: Any, setting: Setting = SETTING) -> dict[str, Severity]:
    return {found.check: found.severity for found in findings(document, setting)}


# -- what is shipped -------------------------------------------------------------------------------


@named(SCHEDULER_CONFIGS)
def test_nothing_that_is_shipped_has_an_error(case: Manifest) -> None:
    assert ERROR not in checks(case.body).values(), findings(case.body)


def test_the_usual_way_has_no_finding_at_all() -> None:
    assert findings(SHIPPED_CONFIG) == []


@pytest.mark.parametrize("overlay", [EXISTING_SCHEDULER, TWO_DEPLOYMENTS], ids=lambda p: p.name)
def test_an_overlays_two_configurations_have_no_warning_together(overlay: Path) -> None:
    """Only that pods without a GPU are not asked about, which it is there for."""
    configuration = load_configuration(ROOT / overlay / "extender-config.yaml")
    (scheduler,) = (ROOT / overlay).glob("*scheduler-config.yaml")
    setting = Setting(configuration=configuration, bind_seconds=4.5, nodes=5000)
    assert set(checks(scheduler.read_bytes(), setting)) <= {"ManagedResources"}


# -- the traps -------------------------------------------------------------------------------------

TLS = {"caFile": "/ca.crt", "certFile": "/tls.crt", "keyFile": "/tls.key"}
MUTUAL = {"urlPrefix": "https://extender.ns:8888", "enableHTTPS": True, "tlsConfig": TLS}
OTHER = {"urlPrefix": "http://127.0.0.1:9000", "filterVerb": "filter", "nodeCacheCapable": True}
GPU = [{"name": "nvidia.com/gpu"}]
PROFILES = [{"schedulerName": "model-cache-scheduler"}, {"schedulerName": "batch"}]

EVERYWHERE = [{"name": "DefaultPreemption", "args": {"minCandidateNodesPercentage": 100}}]

TRAPS: dict[str, tuple[str, Severity, Object, Object]] = {
    "no extender": ("NoExtender", ERROR, {"extenders": []}, {}),
    "sampling by default": ("NodesSampled", ERROR, {"percentageOfNodesToScore": None}, {}),
    "sampling by choice": ("NodesSampled", ERROR, {"percentageOfNodesToScore": 30}, {}),
    "sampling in a profile": (
        "NodesSampled",
        ERROR,
        {"profiles": [{"schedulerName": "m", "percentageOfNodesToScore": 10}]},
        {"profiles": [{"schedulerName": "m", "percentageOfNodesToScore": 100}]},
    ),
    "evictions tried on a tenth of the nodes, by default": (
        "EvictionsSampled",
        WARNING,
        {"profiles": [{"schedulerName": "m"}]},
        {"profiles": [{"schedulerName": "m", "pluginConfig": EVERYWHERE}]},
    ),
    "default backoff": ("LongBackoff", WARNING, {"podMaxBackoffSeconds": None}, {}),
    "long backoff": (
        "LongBackoff",
        WARNING,
        {"podMaxBackoffSeconds": 60},
        {"podMaxBackoffSeconds": 2},
    ),
    "a back-off that ends before it begins": (
        "BadBackoff",
        ERROR,
        {"podInitialBackoffSeconds": 5},
        {"podInitialBackoffSeconds": 2},
    ),
    "no back-off at all": (
        "BadBackoff",
        ERROR,
        {"podInitialBackoffSeconds": 0},
        {"podInitialBackoffSeconds": 1},
    ),
    "shared by two profiles": ("ExtenderShared", WARNING, {"profiles": PROFILES}, {}),
    "asked about every pod": (
        "EveryPodAsks",
        WARNING,
        {"profiles": None},
        {"profiles": None, "extender": {"managedResources": GPU}},
    ),
    "an empty list of profiles, which is the default one": (
        "EveryPodAsks",
        WARNING,
        {"profiles": []},
        {"profiles": [{"schedulerName": "m"}]},
    ),
    "an empty list of profiles, sampled": (
        "NodesSampled",
        ERROR,
        {"profiles": [], "percentageOfNodesToScore": 30},
        {"profiles": []},
    ),
    "a profile with an empty name": (
        "NoSchedulerName",
        ERROR,
        {"profiles": [{"schedulerName": ""}]},
        {"profiles": [{}]},
    ),
    "two profiles, one without a name": (
        "NoSchedulerName",
        ERROR,
        {"profiles": [{"schedulerName": "m"}, {"percentageOfNodesToScore": 100}]},
        {"profiles": PROFILES},
    ),
    "two profiles of one name": (
        "SchedulerNameTwice",
        ERROR,
        {"profiles": [{"schedulerName": "m"}, {"schedulerName": "m"}]},
        {"profiles": PROFILES},
    ),
    "the default lease": ("LeaseShared", ERROR, {"leaderElection": {"leaderElect": True}}, {}),
    "the default lease, not said": (
        "LeaseShared",
        ERROR,
        {"leaderElection": None},
        {"leaderElection": {"leaderElect": False}},
    ),
    "two bind": (
        "BindTwice",
        ERROR,
        {"extenders": [SHIPPED_CONFIG["extenders"][0], {**OTHER, "bindVerb": "bind"}]},
        {"extenders": [SHIPPED_CONFIG["extenders"][0], OTHER]},
    ),
    "another filters later": (
        "AnotherFilterFollows",
        WARNING,
        {"extenders": [SHIPPED_CONFIG["extenders"][0], OTHER]},
        {"extenders": [OTHER, SHIPPED_CONFIG["extenders"][0]]},
    ),
    "woken by another name": ("WakingOthers", WARNING, {"profiles": [{"schedulerName": "m"}]}, {}),
    "no filter": ("NoFilter", ERROR, {"extender": {"filterVerb": None}}, {}),
    "no prioritize": ("NoPrioritize", WARNING, {"extender": {"prioritizeVerb": None}}, {}),
    "no bind": ("NoBind", WARNING, {"extender": {"bindVerb": None}}, {}),
    "no preempt": ("NoPreempt", NOTE, {"extender": {"preemptVerb": None}}, {}),
    "a verb in another case": ("VerbUnknown", ERROR, {"extender": {"filterVerb": "Filter"}}, {}),
    "a verb that is a path": ("VerbUnknown", ERROR, {"extender": {"bindVerb": "/bind"}}, {}),
    "an address with a verb": (
        "VerbUnknown",
        ERROR,
        {"extender": {"urlPrefix": "http://127.0.0.1:8888/filter"}},
        {"extender": {"urlPrefix": "http://127.0.0.1:8888/"}},
    ),
    "no weight": ("NoWeight", ERROR, {"extender": {"weight": None}}, {"extender": {"weight": 1}}),
    "a weight that decides nothing": (
        "WeightTooLow",
        WARNING,
        {"extender": {"weight": 14}},
        {"extender": {"weight": 15}},
    ),
    "a weight that drowns the rest": (
        "WeightDrowns",
        WARNING,
        {"extender": {"weight": 151}},
        {"extender": {"weight": 150}},
    ),
    "timeout below the deadline": (
        "TimeoutBelowDeadline",
        ERROR,
        {"extender": {"httpTimeout": "4s", "bindVerb": None}},
        {"extender": {"httpTimeout": "4100ms", "bindVerb": None}},
    ),
    "timeout below what bind takes": (
        "TimeoutBelowDeadline",
        ERROR,
        {"extender": {"httpTimeout": "4.5s"}},
        {"extender": {"httpTimeout": "0s"}},
    ),
    "timeout of a minute": (
        "TimeoutLong",
        WARNING,
        {"extender": {"httpTimeout": "1m"}},
        {"extender": {"httpTimeout": "30s"}},
    ),
    "a negative timeout": ("BadTimeout", ERROR, {"extender": {"httpTimeout": "-5s"}}, {}),
    "ignorable with bind": ("Ignorable", ERROR, {"extender": {"ignorable": True}}, {}),
    "ignorable": (
        "Ignorable",
        WARNING,
        {"extender": {"ignorable": True, "bindVerb": None}},
        {"extender": {"ignorable": False, "bindVerb": None}},
    ),
    "whole nodes": ("NotNodeCacheCapable", ERROR, {"extender": {"nodeCacheCapable": None}}, {}),
    "managed resources": ("ManagedResources", WARNING, {"extender": {"managedResources": GPU}}, {}),
    "devices that nobody counts": (
        "ResourceUncounted",
        ERROR,
        {"extender": {"managedResources": [{**GPU[0], "ignoredByScheduler": True}]}},
        {"extender": {"managedResources": GPU}},
    ),
    "no address": ("BadAddress", ERROR, {"extender": {"urlPrefix": "127.0.0.1:8888"}}, {}),
    "a port that is none": ("BadAddress", ERROR, {"extender": {"urlPrefix": "http://h:x"}}, {}),
    "in the clear": (
        "VerbsExposed",
        ERROR,
        {"extender": {"urlPrefix": "http://extender.ns:8888"}},
        {"extender": {"urlPrefix": "http://[::1]:8888"}},
    ),
    "HTTPS that is none": ("HttpsNotUsed", WARNING, {"extender": {"enableHTTPS": True}}, {}),
    "HTTPS without a CA": (
        "ServerNotProven",
        ERROR,
        {"extender": {**MUTUAL, "tlsConfig": {k: v for k, v in TLS.items() if k != "caFile"}}},
        {"extender": MUTUAL},
    ),
    "HTTPS that proves nothing": (
        "ServerNotProven",
        ERROR,
        {"extender": {**MUTUAL, "tlsConfig": {**TLS, "insecure": True}}},
        {"extender": MUTUAL},
    ),
    "HTTPS without a certificate of its own": (
        "NoClientCertificate",
        ERROR,
        {"extender": {**MUTUAL, "tlsConfig": {"caFile": "/ca.crt"}}},
        {"extender": {**MUTUAL, "tlsConfig": {**TLS, "caFile": None, "caData": "QQ=="}}},
    ),
    "a key of another time": (
        "SchedulerFileBroken",
        ERROR,
        {"algorithmSource": {"provider": "x"}},
        {},
    ),
    "a misspelt key": ("SchedulerFileBroken", ERROR, {"extender": {"ignoreable": False}}, {}),
    "a text for a number": ("SchedulerFileBroken", ERROR, {"extender": {"weight": "15"}}, {}),
    "an old version": (
        "SchedulerFileBroken",
        ERROR,
        {"apiVersion": "kubescheduler.config.k8s.io/v1beta3"},
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("check", "severity", "bad", "mended"), TRAPS.values(), ids=TRAPS)
def test_each_trap_is_found_where_it_is_and_gone_once_mended(
    check: str, severity: Severity, bad: Object, mended: Object
) -> None:
    found = [one for one in findings(shipped(**bad)) if one.check == check]
    assert found, checks(shipped(**bad))
    assert [one.severity for one in found] == [severity] * len(found)
    assert all(one.object.startswith("F:") and one.message and one.remedy for one in found)
    assert check not in checks(shipped(**mended))


def test_a_finding_names_the_line_of_its_field() -> None:
    text = (ROOT / "config/scheduler-config.yaml").read_bytes()
    lines = text.decode().splitlines()
    number = next(i for i, line in enumerate(lines, 1) if line.strip() == "weight: 15")
    (found,) = findings(text.replace(b"weight: 15", b"weight: 3"))
    assert found.object == f"F:{number} extenders[0].weight"


def test_all_wrong_values_are_said_at_once() -> None:
    entry = {**SHIPPED_CONFIG["extenders"][0], "weight": "x"}
    other = {**OTHER, "ignorable": "yes"}
    document = shipped(extenders=[entry, other], podMaxBackoffSeconds="2")
    places = {found.object.split(" ", 1)[1] for found in findings(document)}
    assert places == {"extenders[0].weight", "extenders[1].ignorable", "podMaxBackoffSeconds"}


@pytest.mark.parametrize("nodes", [0, 99, 100])
def test_sampling_is_a_warning_while_the_cluster_is_small(nodes: int) -> None:
    document = shipped(percentageOfNodesToScore=None)
    assert checks(document, Setting(nodes=nodes))["NodesSampled"] is WARNING


@pytest.mark.parametrize(
    ("args", "nodes", "sampled"),
    [
        ({}, 100, False),
        ({}, 101, True),
        ({"minCandidateNodesAbsolute": 500}, 500, False),
        ({"minCandidateNodesAbsolute": 500}, 501, True),
        ({"minCandidateNodesPercentage": 99}, 5000, True),
        ({"minCandidateNodesPercentage": "all"}, 5000, False),
    ],
)
def test_evictions_are_sampled_beyond_a_share_or_a_number_whichever_is_more(
    args: Object, nodes: int, sampled: bool
) -> None:
    """What kube-scheduler does not read is told as a file that it does not start with."""
    profile = {"schedulerName": "m", "pluginConfig": [{"name": "DefaultPreemption", "args": args}]}
    found = checks(shipped(profiles=[profile]), Setting(nodes=nodes))
    assert ("EvictionsSampled" in found) is sampled
    assert ("SchedulerFileBroken" in found) is ("all" in args.values())


@pytest.mark.parametrize(
    ("percentage", "nodes", "looks_at"),
    [(None, 50, 50), (None, 1000, 420), (None, 5000, 500), (None, 20_000, 1000), (30, 200, 100)],
)
def test_so_many_nodes_are_looked_at(percentage: int | None, nodes: int, looks_at: int) -> None:
    assert feasible_nodes(percentage, nodes) == looks_at


def test_ignorable_is_an_error_where_pods_require_their_model() -> None:
    document = shipped(extender={"ignorable": True, "bindVerb": None})
    assert checks(document, Setting(required=True))["Ignorable"] is ERROR


def test_the_extenders_own_configuration_counts() -> None:
    configuration = read_configuration(
        {
            "apiVersion": "modelcache.dev/v1alpha1",
            "kind": "ExtenderConfiguration",
            "server": {"deadlineSeconds": 8},
            "waking": {"schedulerNames": ["m"]},
        }
    )
    document = shipped(profiles=[{"schedulerName": "m"}])
    assert set(checks(document, Setting(configuration=configuration))) == {"TimeoutBelowDeadline"}


def test_an_extender_that_wakes_nobody_is_told() -> None:
    """Its configuration is the place to mend it, not kube-scheduler's file."""
    read = {"apiVersion": "modelcache.dev/v1alpha1", "kind": "ExtenderConfiguration"}
    off = Setting(configuration=read_configuration({**read, "waking": {"enabled": False}}))
    (found,) = findings(SHIPPED_CONFIG, off)
    assert (found.check, found.severity) == ("WakingOff", WARNING)
    assert found.remedy == "waking: {enabled: true}"


def test_only_the_entry_that_calls_this_program_is_judged() -> None:
    foreign = {"urlPrefix": "http://gpu.ns:9000", "filterVerb": "f", "ignorable": True}
    document = shipped(extenders=[foreign, SHIPPED_CONFIG["extenders"][0]])
    assert findings(document) == []


# -- files -----------------------------------------------------------------------------------------

BROKEN: dict[str, tuple[bytes, str]] = {
    "not YAML": (b"a: [1,\nb: }", "line 2"),
    "nothing": (b"", "holds no KubeSchedulerConfiguration"),
    "another kind": (b"kind: Pod", "found: Pod"),
    "a list": (b"- kind: KubeSchedulerConfiguration", "found: nothing"),
    "bytes": (b"a: \x00\xff", "cannot be read"),
}


@pytest.mark.parametrize(("text", "said"), BROKEN.values(), ids=BROKEN)
def test_a_file_that_cannot_be_read_is_a_finding(text: bytes, said: str) -> None:
    (found,) = findings(text)
    assert (found.check, found.severity) == ("SchedulerFileBroken", ERROR)
    assert said in found.message


WRAPPED: dict[str, Callable[[bytes], bytes]] = {
    "a ConfigMap": lambda text: yaml.safe_dump(
        {"kind": "ConfigMap", "data": {"readme": "x", "scheduler-config.yaml": text.decode()}}
    ).encode(),
    "several documents": lambda text: b"---\n---\nkind: Namespace\n---\n" + text,
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_the_document_is_found_in(wrap: Callable[[bytes], bytes]) -> None:
    text = yaml.safe_dump(shipped(extender={"weight": 1})).encode()
    (found,) = (one for one in findings(wrap(text)) if one.check == "WeightTooLow")
    assert found.object.endswith(" extenders[0].weight")
