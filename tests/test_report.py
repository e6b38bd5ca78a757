"""The texts between loader and extender: what one writes, the other reads; too much is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.errors import InvalidReportError
from extender.report import (
    MAX_REPORT_BYTES,
    Disk,
    Progress,
    Report,
    ReportedModel,
    ReportedState,
    Transfer,
    Wanted,
    WantedModel,
    bounded,
    read,
    write,
)

MODELS = st.builds(
    ReportedModel,
    path=st.text(min_size=1, max_size=60),
    state=st.sampled_from(ReportedState),
    model=st.none() | st.text(max_size=80),
    bytes=st.none() | st.integers(0, 2**50),
    proven_at=st.none() | st.just("2026-01-01T00:00:00Z"),
    reason=st.text(max_size=400),
    on_demand=st.booleans(),
)
REPORTS = st.builds(
    Report, directory=st.just("/var/lib/models"), models=st.lists(MODELS, max_size=20).map(tuple)
)


@given(REPORTS)
def test_what_is_written_is_read_again(report: Report) -> None:
    assert read(write(report), Report) == bounded(report)


@given(REPORTS, st.integers(400, 4_000))
def test_a_report_is_never_larger_than_its_bound(report: Report, limit: int) -> None:
    cut = bounded(report, limit)
    assert len(write(cut).encode()) <= limit
    left_out = cut.unlisted.count if cut.unlisted else 0
    assert len(cut.models) + left_out == len(report.models)


def test_a_report_of_three_hundred_models_lists_all_of_them() -> None:
    models = tuple(
        ReportedModel(
            path=f"models/organisation-{at}/model-{at}-instruct",
            model=f"hf://organisation-{at}/model-{at}-instruct",
            state=ReportedState.READY,
            bytes=16_000_000_000 + at,
        )
        for at in range(300)
    )
    cut = bounded(Report(directory="/var/lib/models", models=models))
    assert cut.unlisted is None
    assert [m.path for m in cut.models] == [m.path for m in models]
    assert len(write(cut)) <= MAX_REPORT_BYTES


def test_ready_models_are_listed_before_all_others() -> None:
    models = [
        ReportedModel(path=f"{state}-{at}", state=state)
        for at in range(40)
        for state in (ReportedState.ABSENT, ReportedState.READY)
    ]
    cut = bounded(Report(directory="/m", models=tuple(models)), 1_000)
    assert cut.unlisted is not None
    assert all(m.state is ReportedState.READY for m in cut.models)


def test_a_change_among_what_is_not_listed_changes_the_report() -> None:
    def digest(last: ReportedState) -> str:
        models = [ReportedModel(path=f"m{at}", state=ReportedState.ABSENT) for at in range(99)]
        models.append(ReportedModel(path="z", state=last))
        unlisted = bounded(Report(directory="/m", models=tuple(models)), 500).unlisted
        assert unlisted is not None
        return unlisted.digest

    assert digest(ReportedState.ABSENT) != digest(ReportedState.FAILED)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a report"),
        ("[]", "not a report"),
        ("{}", "directory"),
        ('{"directory": "/m", "version": 2}', "version 2"),
        ('{"directory": "/m", "models": [{"path": "a"}]}', "state"),
        ('{"directory": "/m", "models": [{"path": "a", "state": "odd"}]}', "odd"),
        ('{"directory": "/m", "models": [{"path": "a", "state": "ready", "bytes": -1}]}', "bytes"),
        ("[" * 100_000, "not a report"),
    ],
)
def test_what_is_no_report_is_said_to_be_none(text: str, said: str) -> None:
    with pytest.raises(InvalidReportError, match=said):
        read(text, Report)


MODEL = '{"version":1,"directory":"/m","models":[{"path":"a","state":"ready","bytes":%s}]}'
UNLISTED = '{"version":1,"directory":"/m","unlisted":{"count":%s,"digest":"d"}}'
DISK = '{"version":1,"disk":{"freeBytes":1,"totalBytes":%s}}'
SPEED = '{"version":1,"disk":{"freeBytes":1,"totalBytes":1,"readBytesPerSecond":%s}}'
TRANSFER = '{"version":1,"transfers":[{"path":"a","bytesDone":1,"bytesTotal":%s}]}'


@pytest.mark.parametrize("number", ["1" + "0" * 400, str(2**63), "1e300"])
def test_a_number_that_nothing_can_be_worked_out_with_is_no_report(number: str) -> None:
    """A tenant writes what it likes to its own pods, and it must harm nobody else."""
    for text in (MODEL, UNLISTED):
        read(text % 1, Report)
        with pytest.raises(InvalidReportError):
            read(text % number, Report)
    for text in (DISK, SPEED, TRANSFER):
        read(text % 1, Progress)
        with pytest.raises(InvalidReportError):
            read(text % number, Progress)


def test_unknown_keys_are_skipped() -> None:
    assert read('{"directory": "/m", "colour": "red"}', Report) == Report(directory="/m")


def test_progress_and_wishes_are_read_again() -> None:
    progress = Progress(
        transfers=(Transfer(path="a", bytes_done=1, bytes_total=2, bytes_per_second=0.5),),
        disk=Disk(free_bytes=1, total_bytes=2, read_bytes_per_second=3.0),
    )
    wanted = Wanted(models=(WantedModel(path="a", until="2026-01-01T00:00:00Z", pod="ns/p"),))
    assert read(write(progress), Progress) == progress
    assert read(write(wanted), Wanted) == wanted
