"""Downloads that bring weights in a format that one should not, or need not, have.

``.bin`` and ``.pt`` files are pickles: they run code when they are opened, cannot be mapped into
memory, and most repositories hold the same weights as safetensors beside them, so that a download
without patterns fetches everything twice (https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from extender.doctor.examined import Examined
from extender.doctor.finding import Finding, Severity
from extender.kube.objects import Container, PodSpec

_HUB = re.compile(r"\bsnapshot_download\s*\(|\b(?:hf|huggingface-cli)\s+download\b")
_CHOOSES = re.compile(
    r"""(?P<which>allow_patterns\s*=|ignore_patterns\s*=|--include\b|--exclude\b)
    (?P<what>\s*\[[^\]]*\]|(?:[\s=]+(?!-)["']?[^\s"'&|;,)]+["']?)+)""",
    re.VERBOSE,
)
_PICKLED = re.compile(r"\.(?:bin|pt|pth)\b")
_LOAD_FORMAT = re.compile(r"--load-format[\s=]+(pt|npcache)\b")


def check_formats(examined: Examined) -> Iterator[Finding]:
    """Look at what loaders, Jobs and pods download."""
    owners = [
        *((f"DaemonSet {_name(ds)}", ds.spec.template.spec) for ds in examined.daemon_sets),
        *((f"Job {_name(job)}", job.spec.template.spec) for job in examined.jobs),
        *((g.owner, g.pod.spec) for g in examined.groups if g.kind not in {"DaemonSet", "Job"}),
    ]
    for owner, spec in owners:
        for container in _containers(spec):
            yield from _container(owner, container)


def _name(obj: object) -> str:
    metadata = getattr(obj, "metadata", None)
    return f"{metadata.namespace}/{metadata.name}" if metadata else ""


def _containers(spec: PodSpec) -> tuple[Container, ...]:
    return (*spec.init_containers, *spec.containers)


def _container(owner: str, container: Container) -> Iterator[Finding]:
    script = " ".join((*container.command, *container.args))
    loads = _LOAD_FORMAT.search(script)
    if loads:
        yield Finding(
            severity=Severity.WARNING,
            check="PickledWeights",
            object=owner,
            message=f"container {container.name} loads pickled weights ({loads[0]})",
            remedy="--load-format safetensors",
        )
    if not _HUB.search(script):
        return
    wanted = unwanted = ""
    for choice in _CHOOSES.finditer(script):
        if choice["which"].startswith(("allow", "--include")):
            wanted += choice["what"]
        else:
            unwanted += choice["what"]
    if ("safetensors" not in wanted and _PICKLED.search(wanted)) or "safetensors" in unwanted:
        yield Finding(
            severity=Severity.WARNING,
            check="PickledWeights",
            object=owner,
            message=f"container {container.name} downloads .bin or .pt weights and leaves the "
            "safetensors out",
            remedy='ignore_patterns=["*.bin", "*.pt", "*.pth"] (hf download --exclude "*.bin" '
            '"*.pt" "*.pth")',
        )
    elif not wanted and not unwanted:
        yield Finding(
            severity=Severity.NOTE,
            check="EveryFormatFetched",
            object=owner,
            message=f"container {container.name} downloads every file of the repository: many "
            "hold their weights as .bin or .pt as well as safetensors",
            remedy='ignore_patterns=["*.bin", "*.pt", "*.pth", "original/*"] (hf download '
            '--exclude "*.bin" "*.pt" "*.pth" "original/*")',
        )
