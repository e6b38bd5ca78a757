"""``doctor``: what is wrong with a set-up, and what to change."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from extender.cli.source import (
    DUMP_EPILOG,
    cluster_options,
    new_context,
    new_state,
    path_argument,
    state_from_snapshot,
)
from extender.cli.terminal import is_piped, say, show_json
from extender.cluster.kept import Kept
from extender.config import ExtenderConfiguration, load_configuration
from extender.doctor.cluster import check_cluster
from extender.doctor.examined import Examined, examine
from extender.doctor.extenders import check_scheduler_versions
from extender.doctor.finding import Finding, Severity, worst_first
from extender.doctor.permissions import (
    READ_RIGHTS,
    WRITE_RIGHTS,
    Right,
    check_permissions,
    lease_rights,
)
from extender.doctor.running import check_running
from extender.doctor.scheduler import check_scheduler
from extender.doctor.scheduler_entry import Setting
from extender.doctor.scheduler_file import SchedulerFile, read_scheduler_file
from extender.doctor.surroundings import check_clock, check_version
from extender.errors import UsageError
from extender.explain.naming import some
from extender.snapshot import read_bytes
from extender.workload.model import Need

FOUND_AN_ERROR = 1
_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}
_OF_A_CHECK = 20
"""So many findings of one check are told on a terminal: of thousands the rest has no room there."""
_SHIPPED_LEASE = ("model-cache-system", "model-cache-scheduler")


class Diagnosis(msgspec.Struct, kw_only=True):
    """What was found, what was looked at, and what was not and why."""

    findings: list[Finding] = []
    checked: list[str] = []
    not_checked: dict[str, str] = {}

    def add(self, subject: str, findings: Iterator[Finding]) -> None:
        """Take what a check says."""
        self.findings += findings
        self.checked.append(subject)

    def document(self) -> dict[str, Any]:
        """Return the JSON document."""
        return {
            "findings": worst_first(self.findings),
            "checked": self.checked,
            "notChecked": [{"subject": s, "why": why} for s, why in self.not_checked.items()],
            "summary": self.summary(),
        }

    def summary(self) -> str:
        """Count the findings."""
        counts = Counter(found.severity for found in self.findings)
        said = ", ".join(f"{counts[s]} {s.value}{'s' * (counts[s] != 1)}" for s in Severity)
        return f"{said}; checked: {', '.join(self.checked) or 'nothing'}"

    @property
    def failed(self) -> bool:
        """Tell whether an error was found."""
        return any(found.severity is Severity.ERROR for found in self.findings)


@click.command(epilog=DUMP_EPILOG)
@click.option(
    "--scheduler-config",
    type=path_argument,
    help="The KubeSchedulerConfiguration to check, or a ConfigMap that carries it; - is standard "
    "input.",
)
@click.option("--extender", "url", help="A running extender: http://HOST:PORT, its status port.")
@click.option(
    "--service-account",
    metavar="NAMESPACE/NAME",
    help="Check the rights of this account, in place of your own.",
)
@click.option("--observe", is_flag=True, help="Shadow mode: reading is all that it needs.")
@click.option("-o", "--output", default="table", type=click.Choice(["table", "json"]))
@cluster_options
def doctor(
    *,
    scheduler_config: Path | None,
    url: str | None,
    service_account: str | None,
    observe: bool,
    output: str,
    config: Path | None,
    snapshot: Path | None,
    kubeconfig: Path | None,
    kube_context: str | None,
) -> None:
    """Check the set-up: scheduler configuration, rights, loaders, pods, clock, versions.

    Every finding says what to change. Exit code 0 without an error, 1 with one, 2 for wrong use.
    """
    configuration = load_configuration(config)
    if snapshot is not None and service_account is not None:
        raise UsageError("--service-account asks a live cluster; leave out --snapshot")
    diagnosis = Diagnosis()
    file = _read_scheduler(scheduler_config, diagnosis)
    schedulers = _scheduler_names(configuration, file)
    if snapshot is not None:
        examined = _from_snapshot(snapshot, configuration, schedulers, diagnosis)
    elif _names_no_cluster(kubeconfig, kube_context) and scheduler_config is not None:
        examined = None
        why = "no cluster is named; give --kubeconfig or --snapshot"
        diagnosis.not_checked |= {"cluster": why, "rights": why, "clock": why, "version": why}
    else:
        examined = _live(
            configuration,
            schedulers,
            diagnosis,
            kubeconfig=kubeconfig,
            kube_context=kube_context,
            account=service_account,
            observe=observe,
        )
    if examined is not None:
        diagnosis.add("cluster", check_cluster(examined))
    if file is not None:
        diagnosis.add(
            "scheduler configuration", check_scheduler(file, _setting(configuration, examined))
        )
    if url is not None:
        from extender.cli import asking

        diagnosis.add("extender", check_running(asking.extender(url)))
    else:
        diagnosis.not_checked["extender"] = "give its address with --extender"
    _print(diagnosis, output)
    sys.exit(FOUND_AN_ERROR if diagnosis.failed else 0)


def _read_scheduler(path: Path | None, diagnosis: Diagnosis) -> SchedulerFile | None:
    if path is None:
        diagnosis.not_checked["scheduler configuration"] = "give it with --scheduler-config"
        return None
    file, broken = read_scheduler_file(str(path), read_bytes(path))
    diagnosis.findings += broken
    if file is None:
        diagnosis.not_checked["scheduler configuration"] = "it cannot be read; see the findings"
    return file


def _scheduler_names(
    configuration: ExtenderConfiguration, file: SchedulerFile | None
) -> frozenset[str]:
    """Return the names under which pods come to this extender."""
    if file is None or not file.configuration.extenders:
        return frozenset(configuration.waking.scheduler_names)
    return frozenset(file.configuration.scheduler_names)


def _names_no_cluster(kubeconfig: Path | None, kube_context: str | None) -> bool:
    """Tell whether only a file was given to look at, and there is no cluster to be found."""
    found = kubeconfig or kube_context or os.environ.get("KUBECONFIG")
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ
    return not (found or in_pod or Path("~/.kube/config").expanduser().is_file())


def _setting(configuration: ExtenderConfiguration, examined: Examined | None) -> Setting:
    from extender.serving.bindings import BIND_SECONDS, CONNECT_SECONDS, LOOK_UP_SECONDS

    groups = examined.groups if examined is not None else ()
    return Setting(
        configuration=configuration,
        bind_seconds=CONNECT_SECONDS + BIND_SECONDS + LOOK_UP_SECONDS,
        nodes=len(examined.nodes) if examined is not None else 0,
        required=any(
            reference.need is Need.REQUIRED
            for group in groups
            for reference in group.request.workload.references
        ),
    )


def _from_snapshot(
    path: Path,
    configuration: ExtenderConfiguration,
    schedulers: frozenset[str],
    diagnosis: Diagnosis,
) -> Examined:
    read = state_from_snapshot(configuration, path)
    diagnosis.findings += (_unreadable(str(path), problem) for problem in read.problems)
    for subject in ("rights", "clock", "version"):
        diagnosis.not_checked[subject] = "a dump does not tell"
    for kind, gap in read.gaps.items():
        diagnosis.not_checked[f"{kind}{'es' if kind.endswith('s') else 's'}"] = f"the dump {gap}"
    return examine(new_context(read.state, configuration), read.kept, schedulers)


def _unreadable(where: str, problem: str) -> Finding:
    return Finding(
        severity=Severity.WARNING,
        check="ObjectUnreadable",
        object=where,
        message=problem,
        remedy="mend the field that it names",
    )


def _live(
    configuration: ExtenderConfiguration,
    schedulers: frozenset[str],
    diagnosis: Diagnosis,
    *,
    kubeconfig: Path | None,
    kube_context: str | None,
    account: str | None,
    observe: bool,
) -> Examined | None:
    """Ask the apiserver; where it cannot be listed, that is a finding and the rest goes on."""
    from extender.cli import asking
    from extender.cli.live import NotSyncedError, list_once
    from extender.watch.client import connect

    named = asking.service_account(account) if account is not None else None
    transport = connect(str(kubeconfig) if kubeconfig else None, kube_context)
    server = asking.apiserver(transport)
    diagnosis.add("clock", check_clock(server))
    wanted = _wanted(observe=observe)
    answers = asking.rights(transport, wanted, named)
    who = f"ServiceAccount {account}" if account is not None else "the account of this command"
    diagnosis.add("rights", check_permissions(answers, wanted, who))
    state = new_state(configuration)
    kept = Kept(state)
    examined = None
    if all(a.yes for right, a in answers.items() if right in READ_RIGHTS) or named is not None:
        try:
            list_once(kept, kubeconfig=kubeconfig, kube_context=kube_context)
            examined = examine(new_context(state, configuration), kept, schedulers)
        except NotSyncedError as error:
            diagnosis.findings.append(
                Finding(
                    severity=Severity.ERROR,
                    check="NotListed",
                    object="apiserver",
                    message=str(error),
                    remedy="see the rights and the network between here and the apiserver",
                )
            )
    if examined is None:
        diagnosis.not_checked["cluster"] = "it cannot be listed; see the findings"
    problems = state.problems().items()
    diagnosis.findings += (_unreadable(name, problem) for name, problem in problems)
    labelled = tuple(sorted(examined.opted_in)) if examined is not None else ()
    diagnosis.add("version", check_version(server, labelled))
    if examined is not None:
        diagnosis.findings += check_scheduler_versions(examined, server)
    return examined


def _wanted(*, observe: bool) -> dict[Right, str]:
    return READ_RIGHTS if observe else READ_RIGHTS | WRITE_RIGHTS | lease_rights(*_SHIPPED_LEASE)


def _print(diagnosis: Diagnosis, output: str) -> None:
    if output == "json":
        show_json(diagnosis.document())
        return
    alike: dict[Finding, list[str]] = {}
    for found in worst_first(diagnosis.findings):
        alike.setdefault(msgspec.structs.replace(found, object=""), []).append(found.object)
    told: Counter[str] = Counter()
    for found, objects in alike.items():
        told[found.check] += 1
        if told[found.check] > _OF_A_CHECK and not is_piped():
            continue
        word = f"{found.severity.value.upper():<8}"
        click.secho(word, fg=_COLOURS[found.severity], nl=False)
        say(f"{some(objects)} [{found.check}]", at=len(word))
        say(f"        {found.message}")
        if found.remedy:
            say(f"        -> {found.remedy}")
    if not is_piped():
        for check, number in told.items():
            if number > _OF_A_CHECK:
                say(f"not shown: {number - _OF_A_CHECK} more [{check}]; in a pipe (| less) all are")
    for subject, why in diagnosis.not_checked.items():
        say(f"not checked: {subject} ({why})")
    say(diagnosis.summary())
