"""Loader DaemonSets: whether one is a loader, which host directories it fills, and with what.

A DaemonSet is a loader where its template fetches into a hostPath directory, where it runs this
program's own loader, or where its label says so. Most DaemonSets with a hostPath are none (log
shippers, CNI and CSI agents, device plugins): without a fetch that can be read, nothing is taken
for a loader.
"""

from __future__ import annotations

import posixpath

import msgspec

from extender.kube.objects import DaemonSet
from extender.workload.downloads import Fill, Fills
from extender.workload.model import (
    LOADER_LABEL,
    MODELS_ANNOTATION,
    DeclaredModel,
    LoaderTemplate,
)
from extender.workload.stacks.initializers import fills
from extender.workload.stacks.view import ContainerView, PodView
from extender.workload.volumes import Directories, is_within, normal

_SYSTEM = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr"),
    *("/home/kubernetes", "/opt/bin", "/opt/cni", "/var/lib/calico", "/var/lib/cni"),
    *("/var/lib/containerd", "/var/lib/docker", "/var/lib/kubelet", "/var/log", "/var/run"),
)
"""Host directories that hold no models: CNI plugins and node agents copy binaries and settings
there, and a labelled DaemonSet may mount them beside its cache."""
_MEMORY = "/dev/shm"  # noqa: S108 - not a temporary file: a node cache in memory, below /dev


class _Part(msgspec.Struct, frozen=True):
    """One container: what it fetches, the host directories it may write, and when it is done."""

    view: ContainerView
    done: Fills
    writable: tuple[str, ...]
    ends: bool
    """It runs to its end before the pod can be Ready."""
    proves: bool
    """It runs to its end, or has a probe, before the pod is Ready."""


def read_loader(daemonset: DaemonSet) -> LoaderTemplate | None:
    """Return what a DaemonSet's pods put on their node; None where it is no loader."""
    template = daemonset.spec.template
    label = template.metadata.labels.get(LOADER_LABEL, "").lower()
    declared = template.metadata.annotations.get(MODELS_ANNOTATION, "")
    parts = [part for part in _parts(daemonset) if part.writable]
    if label == "false" or not parts:
        return None
    kept = {path for part in parts for path in _kept(part) if not _is_system(path)}
    if kept:
        return LoaderTemplate(
            directories=tuple(sorted(kept)),
            ready_means_done=False,
            init_means_done=False,
            reports=True,
        )
    models = [m for part in parts for m in _models(part) if not _is_system(m.path)]
    written = [path for part in parts for path in _written(part) if not _is_system(path)]
    inside = [posixpath.join(path, "x") for part in parts for path in _within(part)]
    writable = Directories(path for part in parts for path in part.writable)
    found = {
        directory
        for path in (*written, *inside)
        if (directory := _directory(writable, path)) not in {None, "/"}  # nobody owns a whole node
    }
    if label == "true" or declared.strip():
        chosen = {d for part in parts for d in part.writable if not _is_system(d)} | found
    else:
        chosen = found
    if not chosen:
        return None
    directories = tuple(sorted(chosen))
    owned = Directories(directories)
    writers = [part for part in parts if _relates(part, owned, directories)]
    vouched, all_of_them = _vouched(declared, owned, parts)
    fetching = [part for part in writers if part.done.fills or part.done.opaque]
    return LoaderTemplate(
        directories=directories,
        models=tuple({model.path: model for model in (*models, *vouched)}.values()),
        opaque=not all_of_them or (not vouched and any(_is_opaque(part) for part in writers)),
        ready_means_done=all(part.proves for part in fetching),
        init_means_done=bool(fetching) and all(part.ends for part in fetching),
    )


def _parts(daemonset: DaemonSet) -> list[_Part]:
    template = daemonset.spec.template
    pod = PodView(template.metadata, template.spec)
    parts = []
    for view in (*pod.before, *pod.main):
        container = view.container
        done = fills(view)
        hook = view.hook()
        if hook is not None:  # a container only counts as running once its hook is done
            ran = fills(hook)
            parts.append(_Part(hook, ran, _writable(hook), ends=True, proves=True))
        ends = view in pod.before and container.restart_policy != "Always"
        probed = container.readiness_probe is not None or container.startup_probe is not None
        parts.append(_Part(view, done, _writable(view), ends, ends or probed))
    return parts


def _kept(part: _Part) -> list[str]:
    """Return the host directory that ``model-cache-extender loader run`` keeps, if that is run."""
    view = part.view
    own = view.arguments()
    calls = [
        *view.after("model-cache-extender", "loader", "run"),
        *view.after("-m", "extender", "loader", "run"),
        *([own] if own and [word.text for word in own.words[:2]] == ["loader", "run"] else []),
    ]
    paths = [word.text for call in calls if (word := call.option("--directory")) is not None]
    return [path for directory in paths if (path := _on_host(part, directory)) is not None]


def _writable(view: ContainerView) -> tuple[str, ...]:
    writable = (root for root in view.mounts.roots if not root.mount.read_only)
    return tuple(root.host_path for root in writable if root.host_path is not None)


def _models(part: _Part) -> list[DeclaredModel]:
    return [
        DeclaredModel(
            path=path, model=fill.source, revision=fill.revision, read_from=fill.read_from
        )
        for fill in part.done.fills
        for named in _named(part, fill)
        if (path := _on_host(part, named)) is not None
    ]


def _named(part: _Part, fill: Fill) -> tuple[str, ...]:
    """Return the paths in the container at which a fill puts what can be named."""
    place = part.view.mounts.locate(fill.destination or "")
    return fill.models(at_root=place is not None and place.is_root)


def _written(part: _Part) -> list[str]:
    """Return all that a container writes on the host, named or not."""
    paths = (_on_host(part, fill.destination) for fill in part.done.fills)
    return [path for path in paths if path is not None]


def _within(part: _Part) -> list[str]:
    paths = (_on_host(part, directory) for directory in part.done.within)
    return [path for path in paths if path is not None and not _is_system(path)]


def _on_host(part: _Part, path: str | None) -> str | None:
    if path is None or not path.startswith("/"):
        return None
    place = part.view.mounts.locate(path)
    return None if place is None or place.mount.read_only else place.host_path


def _directory(writable: Directories, path: str) -> str | None:
    """Return the deepest writable mount that holds a path.

    One who mounts the whole host (or all of /var) does not own it: there, it is the directory that
    the model lies in.
    """
    deepest = writable.deepest(path)
    if deepest is None:
        return None
    if deepest != path and any(is_within(system, deepest) for system in _SYSTEM):
        return posixpath.dirname(path)
    return deepest


def _relates(part: _Part, owned: Directories, directories: tuple[str, ...]) -> bool:
    """Tell whether a container may write into these directories, or something that holds them."""
    if any(owned.deepest(path) for path in part.writable):
        return True
    writable = Directories(part.writable)
    return any(writable.deepest(directory) for directory in directories)


def _is_opaque(part: _Part) -> bool:
    return part.done.opaque or any(
        fill.destination is None
        or (_on_host(part, fill.destination) is not None and not _named(part, fill))
        for fill in part.done.fills
    )


def _is_system(directory: str) -> bool:
    if is_within(directory, _MEMORY) and directory != _MEMORY:
        return False
    return directory == "/" or any(is_within(directory, system) for system in _SYSTEM)


def _vouched(
    declared: str, directories: Directories, parts: list[_Part]
) -> tuple[list[DeclaredModel], bool]:
    """Read the annotation: paths on the node, or as the loader's containers see them.

    Returns the models, and whether these are all; more may be named than anybody reads.
    """
    models: list[DeclaredModel] = []
    budget = parts[0].view.pod.budget
    for line in declared.splitlines():
        path = line.strip()
        if not path.startswith("/"):
            continue
        if not budget.spend(steps=len(parts)):
            return models, False
        on_node = _on_node(normal(path), directories, parts)
        if on_node is not None:
            place = (f"metadata.annotations[{MODELS_ANNOTATION}]",)
            models.append(DeclaredModel(path=posixpath.normpath(on_node), read_from=place))
    return models, True


def _on_node(path: str, directories: Directories, parts: list[_Part]) -> str | None:
    if directories.deepest(path) is not None:
        return path
    for part in parts:
        place = part.view.mounts.locate(path)
        if place is not None and place.host_path is not None:
            return place.host_path
    return None
