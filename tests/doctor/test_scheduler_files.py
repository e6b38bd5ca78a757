"""``doctor`` refuses the scheduler files that kube-scheduler refuses, and names what to mend."""

from __future__ import annotations

import pytest

from extender.doctor.decoded import seconds
from extender.doctor.finding import Finding, Severity
from extender.doctor.scheduler import check_scheduler
from extender.doctor.scheduler_entry import Setting
from extender.doctor.scheduler_file import read_scheduler_file
from tests.doctor.scheduler_files import ACCEPTED, REFUSED, changed, plugins

UNSTARTED = frozenset(
    {
        "SchedulerFileBroken", "NoSchedulerName", "SchedulerNameTwice", "BadBackoff", "BindTwice",
        "NoWeight",
    }
)  # fmt: skip
"""The findings that say that kube-scheduler does not start."""


def findings(text: str) -> list[Finding]:
    file, broken = read_scheduler_file("F", text.encode())
    return broken + (list(check_scheduler(file, Setting())) if file is not None else [])


def refusals(text: str) -> dict[str, Finding]:
    """What keeps kube-scheduler from starting, by its field."""
    return {
        found.object.partition(" ")[2]: found
        for found in findings(text)
        if found.check in UNSTARTED
    }


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_a_file_that_kube_scheduler_takes_is_not_refused(text: str) -> None:
    assert refusals(text) == {}


@pytest.mark.parametrize(("text", "field"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_kube_scheduler_refuses_is_refused_at_its_field(text: str, field: str) -> None:
    found = refusals(text)
    assert field in found
    assert found[field].object.startswith("F:")
    assert found[field].remedy
    assert found[field].severity is Severity.ERROR


def test_a_misspelt_key_is_told_with_the_one_that_is_near() -> None:
    found = refusals(changed(("leaderElection", "leaderElct"), value=True))
    assert found["leaderElection.leaderElct"].remedy == "write leaderElect, or take leaderElct out"


def test_a_number_in_quotes_is_told_without_them() -> None:
    text = changed(("extenders", 0, "weight"), "15")
    assert refusals(text)["extenders[0].weight"].remedy == "weight: 15"


@pytest.mark.parametrize("given", ["9" * 31, 10**30])
def test_a_number_that_is_too_large_is_not_told_to_be_written(given: object) -> None:
    (found,) = refusals(changed(("extenders", 0, "weight"), given)).values()
    assert found.remedy == "write weight as a whole number of 64 bits"


def test_values_that_are_refused_hide_no_trap_and_no_other_refusal() -> None:
    text = changed(("parallelism",), 0).replace("httpTimeout: 5s", "httpTimeout: 1s")
    text = text.replace("percentageOfNodesToScore: 100", "percentageOfNodesToScore: 150")
    assert {found.check for found in findings(text)} == {
        "SchedulerFileBroken", "TimeoutBelowDeadline",
    }  # fmt: skip
    assert set(refusals(text)) == {"parallelism", "percentageOfNodesToScore"}


def test_a_value_of_another_type_hides_no_value_that_is_refused() -> None:
    text = changed(("parallelism",), 0).replace("httpTimeout: 5s", "httpTimeout: 5")
    assert set(refusals(text)) == {"parallelism", "extenders[0].httpTimeout"}


@pytest.mark.parametrize("given", ["hunter2", {"keyData": "%hunter2"}, {"keyData": ["hunter2"]}])
def test_what_may_hold_a_key_is_not_shown(given: object) -> None:
    found = findings(changed(("extenders", 0, "tlsConfig"), given))
    assert [one for one in found if "tlsConfig" in one.object]
    assert "hunter2" not in str(found)


def test_a_plugin_that_is_not_built_in_is_a_warning() -> None:
    """kube-scheduler can be built with more than it is released with."""
    (found,) = (f for f in findings(plugins(score={"enabled": [{"name": "Mine"}]}))
                if f.check == "PluginNotBuiltIn")  # fmt: skip
    assert (found.severity, found.object.partition(" ")[2]) == (
        Severity.WARNING, "profiles[0].plugins.score.enabled[0].name",
    )  # fmt: skip


def test_a_leader_that_cannot_renew_in_time_is_refused() -> None:
    """NewLeaderElector refuses it, once the file was taken: ``--write-config-to`` comes before."""
    text = changed(("leaderElection", "renewDeadline"), "2s")
    assert set(refusals(text)) == {"leaderElection.renewDeadline"}


@pytest.mark.parametrize("text", ["a: &x [*x]", "a: &x {b: *x}"])
def test_a_document_within_itself_is_refused_and_ends(text: str) -> None:
    assert findings(f"{text}\nkind: KubeSchedulerConfiguration\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5s", 5.0), ("1m30s", 90.0), ("500ms", 0.5), ("0", 0.0), ("-5s", -5.0), ("+1h", 3600.0),
     ("1.5s", 1.5), (".5s", 0.5), ("5 s", None), ("", None), ("5", None), ("-", None),
     ("3000000h", None), ("s", None)],
)  # fmt: skip
def test_durations_are_gos(text: str, expected: float | None) -> None:
    assert seconds(text) == expected
