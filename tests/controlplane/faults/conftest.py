"""Rounds and seeds, the proxy, and a namespace that all churn happens in."""

from __future__ import annotations

import os
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.controlplane.cluster import ControlPlane
from tests.controlplane.faults.api import Api
from tests.controlplane.faults.proxy import Proxy
from tests.controlplane.faults.scene import SETTLED, proxy_for, token_of

ROUNDS = int(os.environ.get("FAULT_ROUNDS") or 1)
"""How often each fault runs; those that restart processes run a fifth as often."""

FIRST_SEED = int(os.environ.get("FAULT_SEED") or 0)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    rounds = {"seed": ROUNDS, "slow_seed": max(1, ROUNDS // 5)}
    for name, number in rounds.items():
        if name in metafunc.fixturenames:
            seeds = range(FIRST_SEED, FIRST_SEED + number)
            metafunc.parametrize(name, seeds, ids=[f"seed {seed}" for seed in seeds])


@pytest.fixture(autouse=True)
def _row(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Iterator[None]:
    """Note for the table how long the way back to the truth was."""
    SETTLED.clear()
    yield
    law = request.node.name.partition("[")[0].removeprefix("test_").replace("_", " ")
    fault = re.sub(r"seed \d+-?|-?seed \d+", "", request.node.name.partition("[")[2].rstrip("]"))
    record_property("fault", f"{law}: {fault}" if fault else law)
    record_property("settled", max(SETTLED, default=0.0))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of docs/faults.md as this run saw it."""
    rows: dict[str, list[float]] = {}
    failed: Counter[str] = Counter()
    for outcome in ("", "passed", "failed"):  # a teardown that went well is no outcome to pytest
        for report in terminalreporter.getreports(outcome):
            noted = dict(getattr(report, "user_properties", ()))
            if report.when == "teardown" and "fault" in noted:
                rows.setdefault(str(noted["fault"]), []).append(float(noted["settled"]))
            elif report.when == "call" and outcome == "failed":
                failed[report.nodeid.partition("::")[2].partition("[")[0]] += 1
    if rows:
        terminalreporter.section("faults")
    for fault, seconds in sorted(rows.items()):
        terminalreporter.write_line(
            f"{len(seconds):4} times, true again after {max(seconds):5.2f} s at most: {fault}"
        )
    for law, number in failed.items():
        terminalreporter.write_line(f"{number:4} times FAILED: {law}")


@pytest.fixture(scope="session")
def playground(control_plane: ControlPlane) -> Iterator[str]:
    """The namespace of all churn on the shared control plane; each churn cleans up after itself."""
    name = f"faults-{secrets.token_hex(3)}"
    control_plane.create_namespace(name)
    yield name
    control_plane.delete_namespace(name)


@pytest.fixture
def api(control_plane: ControlPlane) -> Iterator[Api]:
    """The real apiserver, asked directly."""
    authority = control_plane.workdir / "certs" / "apiserver.crt"
    made = Api(control_plane.server, authority, token_of(control_plane))
    yield made
    made.close()


@pytest.fixture
def proxy(control_plane: ControlPlane) -> Iterator[Proxy]:
    """A proxy in front of the real apiserver, with its own certificate."""
    with proxy_for(control_plane) as made:
        yield made
