"""Downloads that bring weights in a format that one should not, or need not, have.

``.bin`` and ``.pt`` files are pickles: they run code when they are opened, cannot be mapped into
memory, and most repositories hold the same weights as safetensors beside them, so that a download
without patterns fetches everything twice (https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from extender.doctor.examined import Examined
from extender.doctor.finding import Finding, Severity
from extender.doctor.owners import Owner, daemon_set_owner
from extender.explain.naming import some
from extender.workload.commands import Call
from extender.workload.downloads import Fill
from extender.workload.names import Kind, parse_name
from extender.workload.stacks.initializers import fills
from extender.workload.stacks.view import ContainerView, PodView

_HUB = re.compile(r"\bsnapshot_download\s*\(|\b(?:hf|huggingface-cli)\s+download\b")
_CHOOSES = re.compile(
    r"""(?P<which>allow_patterns\s*=|ignore_patterns\s*=|--(?:include|exclude)(?:-pattern)?\b
    |--accept\b|\s-A\b)
    (?P<what>\s*\[[^\]]*\]|(?<==)\s*\\?["'][^"']*["']
    |(?:[\s=]+(?!-)["']?[^\s"'&|;,)]+["']?)+)""",
    re.VERBOSE,
)
_PICKLED = re.compile(r"\.(?:bin|pt|pth)\b")
_PICKLED_FILE = re.compile(r"(?!ggml|openvino).*\.(?:bin|pt|pth)")
"""A file's name. Those of whisper.cpp and OpenVINO end in ``.bin`` and are formats of their own."""

_FILE = re.compile(r".+\.(?:bin|pt|pth|safetensors|gguf|json|txt|model)")
_PYTHON_FILE = re.compile(r"hf_hub_download\s*\([^)]*?[\"']([^\"']+\.(?:bin|pt|pth))[\"']")
_WEB = ("http://", "https://")
"""How an address of a hub's page begins: one file of a model, fetched by a program for any."""

_PICKLES = ("*.bin", "*.pt", "*.pth")
_OPTIONS = ("--include", "--exclude")
_GLOB = re.compile(r"[*?\[]")
_LOAD_FORMAT = re.compile(r"--load-format[\s=]+(pt|npcache)\b")


def check_formats(examined: Examined) -> Iterator[Finding]:
    """Look at what loaders, Jobs and pods download."""
    templates = (
        *((daemon_set_owner(one.metadata), one.spec.template) for one in examined.daemon_sets),
        *((examined.owners.of_job(one), one.spec.template) for one in examined.jobs),
    )
    pods = [
        *((owner, PodView(one.metadata, one.spec)) for owner, one in templates),
        *((g.owner, g.view) for g in examined.groups if g.kind not in {"DaemonSet", "Job"}),
    ]
    said = (
        found
        for owner, pod in pods
        for view in (*pod.before, *pod.main)
        for found in _container(owner, view)
    )
    yield from dict.fromkeys(said)


def _container(owner: Owner, view: ContainerView) -> Iterator[Finding]:
    name, field = view.container.name, owner.at(f"spec.{view.field}")
    script = " ".join((*view.container.command, *view.container.args))
    loads = _LOAD_FORMAT.search(script)
    if loads:
        yield Finding(
            severity=Severity.WARNING,
            check="PickledWeights",
            object=str(owner),
            message=f"container {name} loads pickled weights ({loads[0]})",
            remedy=f"--load-format safetensors in {field}",
        )
    fetched = [fill for fill in fills(view).fills if _brings(fill, view)]
    files = [*_files_of_hub(view, script), *(_file(fill) for fill in fetched)]
    pickled = sorted({file for file in files if _PICKLED_FILE.fullmatch(file)})
    if pickled:
        yield Finding(
            severity=Severity.WARNING,
            check="PickledWeights",
            object=str(owner),
            message=f"container {name} downloads {some(pickled)}: pickles, which run code when "
            "they are opened",
            remedy=f"fetch the .safetensors files of the same model in {field}; where it has none, "
            "convert it once (https://huggingface.co/docs/safetensors)",
        )
        return
    if fetched or _HUB.search(script):
        yield from _patterns(owner, view, script, files)


def _patterns(
    owner: Owner, view: ContainerView, script: str, files: list[str]
) -> Iterator[Finding]:
    """Look at which files of a repository or bucket are chosen."""
    name, field = view.container.name, owner.at(f"spec.{view.field}")
    for files_alone, apart in filter(None, map(_one_each, view.after("hf", "download"))):
        yield Finding(
            severity=Severity.WARNING,
            check="SeveralPatterns",
            object=str(owner),
            message=f"container {name} has {some(files_alone)} beside an option of hf download "
            "that has its pattern: since huggingface_hub 1.0 those are files, which alone are "
            "fetched",
            remedy=f"{apart} in {field}",
        )
        return
    choices = list(_CHOOSES.finditer(script))
    unwanted = "".join(c["what"] for c in choices if _leaves_out(c))
    wanted = "".join(c["what"] for c in choices if not _leaves_out(c))
    hub = _HUB.search(script) is not None
    if ("safetensors" not in wanted and _PICKLED.search(wanted)) or "safetensors" in unwanted:
        instead = _without(*_PICKLES) if hub else "choose *.safetensors, not *.bin, *.pt or *.pth,"
        yield Finding(
            severity=Severity.WARNING,
            check="PickledWeights",
            object=str(owner),
            message=f"container {name} downloads .bin or .pt weights and leaves the "
            "safetensors out",
            remedy=f"{instead} in place of {some([c[0].strip() for c in choices])} in {field}",
        )
    elif hub and not (wanted or unwanted or any(files)):
        yield Finding(
            severity=Severity.NOTE,
            check="EveryFormatFetched",
            object=str(owner),
            message=f"container {name} downloads every file of the repository: many "
            "hold their weights as .bin or .pt as well as safetensors",
            remedy=f"{_without(*_PICKLES, 'original/*')} in {field}",
        )


def _leaves_out(choice: re.Match[str]) -> bool:
    return choice["which"].startswith(("ignore", "--exclude"))


def _without(*patterns: str) -> str:
    """Say how huggingface_hub leaves files out.

    Its command takes one pattern after each option, and what follows as files to fetch
    (``_build_click_param`` in huggingface_hub/cli/_framework.py, since 1.0).
    """
    quoted = [f'"{pattern}"' for pattern in patterns]
    options = " ".join(f"--exclude {pattern}" for pattern in quoted)
    before = f"before huggingface_hub 1.0 and for huggingface-cli: --exclude {' '.join(quoted)}"
    return f"ignore_patterns=[{', '.join(quoted)}] (hf download {options}) ({before})"


def _one_each(call: Call) -> tuple[list[str], str] | None:
    """Return what an ``hf download`` takes for files, and its patterns with an option before each.

    None where nothing is meant to be a pattern that is not taken for one. What is no pattern, and
    does not stand beside ``--include``, is a file that is asked for as such.
    """
    named: list[str] = []  # the repository, and files
    given: list[tuple[str, list[str]]] = []
    for word in call.words:
        text, known = word.shown, word.text is not None
        if text.startswith("-"):
            option, equals, value = text.partition("=")
            given.append((option, [value] if equals else []))
        elif given and (
            not given[-1][1]
            or _GLOB.search(text)
            or (known and named and given[-1][0] == "--include")
        ):
            given[-1][1].append(text)
        elif known or not named:
            named.append(text)
    chosen = [(option, patterns) for option, patterns in given if option in _OPTIONS]
    files = [text for _, patterns in chosen for text in patterns[1:]]
    if any(option == "--include" for option, _ in chosen):
        files += named[1:]
        chosen.append(("--include", named[1:]))
    if not files:
        return None
    return files, " ".join(f'{option} "{text}"' for option, texts in chosen for text in texts)


def _brings(fill: Fill, view: ContainerView) -> bool:
    """Tell whether something from elsewhere comes into a volume: what stays out is no model."""
    source = fill.source or ""
    kind = parse_name(source).kind
    addressed = kind is Kind.REMOTE or (kind is Kind.HUB and source.startswith(_WEB))
    if not addressed and not (kind is Kind.RELATIVE and ":" in source):  # rclone's
        return False
    if fill.destination is None:
        return True
    return view.mounts.locate(fill.destination) is not None


def _file(fill: Fill) -> str:
    """Return the name of the one file that a URL or an object's address names, else ``""``."""
    name = posixpath.basename(fill.source or "")
    return name if _FILE.fullmatch(name) else ""


def _files_of_hub(view: ContainerView, script: str) -> Iterator[str]:
    """Yield the files of a repository that a call names, by their own names."""
    for program in ("hf", "huggingface-cli"):
        for call in view.after(program, "download"):
            left_out = call.options(*_OPTIONS)
            yield from (
                posixpath.basename(name)
                for word in call.words
                if (name := word.text or "")
                and _FILE.fullmatch(name)
                and not name.startswith("-")
                and word not in left_out
            )
    yield from (posixpath.basename(found) for found in _PYTHON_FILE.findall(script))
