"""The page of findings has every token that doctor can print, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from extender.doctor.scheduler_plugins import GONE, IN_TREE
from tests.deploy.manifests import ROOT

PAGE = ROOT / "docs" / "reference" / "findings.md"
SOURCES = (*sorted((ROOT / "extender" / "doctor").glob("*.py")), ROOT / "extender/cli/doctor.py")
TOKEN = re.compile(r"(?:[A-Z][a-z]+){2,}")
PLUGINS = frozenset(name for name in (*IN_TREE, *GONE) if TOKEN.fullmatch(name))
OF_KUBERNETES = PLUGINS | frozenset(
    "ConfigMap CronJob DaemonSet DoNotSchedule DoesNotExist InferenceService "
    "KubeSchedulerConfiguration LeaderWorkerSet LeastAllocated MostAllocated NotIn "
    "ReadWriteOncePod ReplicaSet "
    "RequestedToCapacityRatio ScheduleAnyway StatefulSet".split()
)
"""Words of that form in the code which are no findings."""


def words() -> Iterator[str]:
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_every_finding_has_its_line_and_every_line_its_finding() -> None:
    used = {word for word in words() if TOKEN.fullmatch(word)}
    assert used > OF_KUBERNETES, "each exception is one"
    others = {"Ignorable", "BadAnnotation"}  # one word; one of the workload's own warnings
    rows = re.findall(r"^\| (`.*?) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    listed = [token for row in rows for token in re.findall(r"`(\w+)`", row)]
    assert len(listed) == len(set(listed))
    assert set(listed) == (used - OF_KUBERNETES) | others
