"""When an extender begins to know the cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from extender.cli import live
from extender.cli.source import new_state
from extender.config import ExtenderConfiguration
from extender.serving.service import Service
from tests.serving.running import kubeconfig
from tests.watch.fake_apiserver import FakeApiserver

SOON = 60.0

WAITS = 2.0
"""Seconds, in which a busy machine comes to look at a process that has just been started."""


@contextmanager
def started(
    folder: Path, api: FakeApiserver, *, observe: bool = False, lease: str | None = None
) -> Iterator[Service]:
    """Start all but the HTTP server."""
    configuration = ExtenderConfiguration()
    service = live.watched_service(
        new_state(configuration),
        configuration,
        kubeconfig=kubeconfig(folder, api.url),
        kube_context=None,
        observe=observe,
        lease=lease,
    )
    service.start()
    try:
        yield service
    finally:
        service.stop()


def wait_listed(service: Service) -> None:
    end = time.monotonic() + SOON
    while service.context.unsynced():
        assert time.monotonic() < end, "the cluster was not listed"
        time.sleep(0.01)


def test_without_a_lease_nothing_is_known_before_what_was_sent_earlier_is_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not known yet is neither filtered for nor bound: kube-scheduler asks again."""
    monkeypatch.setattr(time, "process_time", lambda: live.START_SETTLE_SECONDS - WAITS)
    with FakeApiserver() as api:
        begun = time.monotonic()
        with started(tmp_path, api) as service:
            assert "Pod" in service.context.unsynced()
            wait_listed(service)
            assert min(request.at for request in api.requests) >= begun + WAITS


def test_a_process_that_is_stopped_meanwhile_asks_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "process_time", lambda: live.START_SETTLE_SECONDS - WAITS)
    with FakeApiserver() as api:
        with started(tmp_path, api):
            pass
        time.sleep(WAITS + 0.5)
        assert not api.requests


@pytest.mark.parametrize(("observe", "lease"), [(True, None), (False, "kube-system/x")])
def test_who_binds_nothing_or_is_fenced_lists_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, observe: bool, lease: str | None
) -> None:
    monkeypatch.setattr(live, "START_SETTLE_SECONDS", 10 * SOON + time.process_time())
    with (
        FakeApiserver() as api,
        started(tmp_path, api, observe=observe, lease=lease) as service,
    ):
        wait_listed(service)
