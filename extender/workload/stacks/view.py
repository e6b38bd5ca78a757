"""What a serving stack's reader sees of a container, and what it answers."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from functools import cached_property

import msgspec

from extender.kube.objects import Container, ObjectMeta, PodSpec, Volume
from extender.workload.budget import MOST_CONTAINERS, Budget, budget_of_looking, budget_of_pod
from extender.workload.commands import Call, CommandLine, Word, command_line, hook_line
from extender.workload.downloads import Fills
from extender.workload.expand import Environment, environment
from extender.workload.model import Role
from extender.workload.pythonic import python_budget
from extender.workload.volumes import Mounts, is_within, normal


class Cache(msgspec.Struct, frozen=True, gc=False):
    """Where a server keeps a model that it fetches: a directory in the container.

    ``below`` is this model's own place under it, ``""`` for the whole directory. ``unknown`` says
    why the directory cannot be told; then ``directory`` is empty.
    """

    directory: str
    below: str = ""
    read_from: tuple[str, ...] = ()
    unknown: str = ""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A model that a container asks for, before its path is followed to a volume.

    ``value`` is what the pod says, None where it cannot be read (``unknown`` says why). ``path`` is
    set where the server opens a file path whatever the value looks like. ``offline`` is true where
    the server may not fetch. ``sure`` is false for guesses from flags of servers that are not
    known: their need is never told.
    """

    value: str | None
    role: Role = Role.MODEL
    revision: str | None = None
    read_from: tuple[str, ...] = ()
    cache: Cache | None = None
    path: str | None = None
    offline: bool = False
    sure: bool = True
    unknown: str = ""
    without: str = ""
    """In words how the pod may do without this very model, ``""`` where it cannot."""
    otherwise: bool = False
    """The tool that reads it surely takes another source where it is not there."""


class PodView:
    """A pod's containers, which share what reading them may cost.

    ``before`` are its init containers, ``main`` its containers: of each kind no more than
    ``MOST_CONTAINERS``.
    """

    def __init__(self, metadata: ObjectMeta, spec: PodSpec) -> None:
        self.metadata = metadata
        self.spec = spec
        self.budget = budget_of_pod()
        self.python_budget = python_budget()
        self.looking_budget = budget_of_looking()
        """For looking through what all containers mount and write, once for each model."""
        self.words_budget = budget_of_pod()
        """For going through what follows a program."""
        self.before = self._views("initContainers", spec.init_containers)
        self.main = self._views("containers", spec.containers)

    @cached_property
    def volumes(self) -> dict[str, Volume]:
        """Return the pod's volumes by name."""
        return {volume.name: volume for volume in reversed(self.spec.volumes)}

    @cached_property
    def hooks(self) -> list[ContainerView]:
        """Return what ``postStart`` hooks run in any of them."""
        hooks = (view.hook() for view in (*self.before, *self.main))
        return [hook for hook in hooks if hook is not None]

    def unread(self) -> list[str]:
        """Say what was not read to its end, as far as anybody has looked."""
        cut = [
            f"of {len(listed)} {field} the first {MOST_CONTAINERS} are read"
            for field, listed in (
                ("initContainers", self.spec.init_containers),
                ("containers", self.spec.containers),
            )
            if len(listed) > MOST_CONTAINERS
        ]
        return cut + [
            f"the scripts, variables and arguments of {view.field} take too long to be read to "
            "their end"
            for view in (*self.before, *self.main)
            if view.budget.exhausted
        ]

    def _views(self, field: str, containers: Sequence[Container]) -> list[ContainerView]:
        return [
            ContainerView(container, f"{field}[{index}]", self)
            for index, container in enumerate(containers[:MOST_CONTAINERS])
        ]


class ContainerView:
    """One container with its variables and calls, read once for all stacks."""

    def __init__(self, container: Container, field: str, pod: PodView) -> None:
        self.container = container
        self.field = field
        self.pod = pod
        self.metadata = pod.metadata
        self.spec = pod.spec
        self.budget = Budget(within=pod.budget)
        self.words_budget = Budget(within=pod.words_budget)
        self.written: Fills | None = None
        """What it writes, once somebody has asked (``initializers.fills``)."""

    def running(self, call: Call) -> ContainerView:
        """Return the container as if this were all that it runs."""
        return self._with(msgspec.structs.replace(self.command, calls=(call,)))

    def hook(self) -> ContainerView | None:
        """Return the container as if it ran what its ``postStart`` hook runs, if it has one."""
        lifecycle = self.container.lifecycle
        handler = lifecycle.post_start if lifecycle is not None else None
        if handler is None or handler.exec is None:
            return None
        field = f"{self.field}.lifecycle.postStart.exec.command"
        command = handler.exec.command
        return self._with(hook_line(self.container, command, field, self.declared, self.budget))

    def _with(self, line: CommandLine) -> ContainerView:
        other = ContainerView(self.container, self.field, self.pod)
        other.budget = self.budget
        other.words_budget = self.words_budget
        other.declared = self.declared
        other.mounts = self.mounts
        other.command = line
        return other

    @cached_property
    def declared(self) -> Environment:
        """Return the variables that the spec sets."""
        return environment(self.container, self.metadata, self.budget)

    @cached_property
    def mounts(self) -> Mounts:
        """Return where its paths lead."""
        return Mounts(self.container, self.pod.volumes, self.declared, self.budget)

    @cached_property
    def command(self) -> CommandLine:
        """Return what the container runs."""
        return command_line(self.container, self.field, self.declared, self.budget)

    @cached_property
    def repository(self) -> str:
        """Return the image without registry host, tag and digest: ``vllm/vllm-openai``."""
        name = self.container.image.partition("@")[0].lower()
        head, slash, last = name.rpartition("/")
        host, _, path = head.partition("/")
        if "." in host or ":" in host or host == "localhost":
            head = path
        return f"{head}{slash if head else ''}{last.partition(':')[0]}"

    @property
    def image_name(self) -> str:
        """Return the last part of the image's repository: ``vllm-openai``."""
        return self.repository.rpartition("/")[2]

    def after(self, *program: str) -> Iterator[Call]:
        """Yield the words that follow a program, wherever it stands in a call.

        They are gone through again for each time that it is named: not for ever.
        """
        first, rest = program[0], list(program[1:])
        for call, index in self._programs.get(first, ()):
            follow = call.words[index + 1 : index + 1 + len(rest)]
            if [word.text for word in follow] == rest:
                if not self.words_budget.spend(characters=len(call.words) - index):
                    self.budget.exhausted = True
                    return
                yield Call(call.words[index + 1 + len(rest) :])

    def arguments(self) -> Call | None:
        """Return the arguments of the image's own entrypoint; None where a command replaces it."""
        calls = self.command.calls
        return calls[0] if calls and calls[0].entrypoint else None

    def env(self, *names: str) -> Word | None:
        """Return the first of these variables that is set, and to something."""
        for name in names:
            word = self._env(name)
            if word is not None:
                return word
        return None

    def flag(self, *names: str) -> bool:
        """Tell whether one of these variables is set to a true value."""
        return any(
            (self.command.variables.get(name) or "").lower() in {"1", "true", "yes", "on"}
            for name in names
        )

    def mounted(self, ending: str) -> str | None:
        """Return the mount path that ends so (``/.cache/huggingface``), if there is one."""
        paths = (normal(mount.mount_path) for mount in self.container.volume_mounts)
        return next((path for path in paths if path.endswith(ending)), None)

    def mounted_above(self, path: str) -> str | None:
        """Return a mount path that holds this path, if there is one."""
        paths = (normal(mount.mount_path) for mount in self.container.volume_mounts)
        return next((mount for mount in paths if is_within(path, mount)), None)

    @property
    def home(self) -> str:
        """Return the home directory: HOME, else root's."""
        return self.command.variables.get("HOME") or "/root"

    def _env(self, name: str) -> Word | None:
        index = self._env_index.get(name)
        variables = self.command.variables
        if name not in variables:
            return None
        value = variables[name]
        if value == "":
            return None
        place = (f"{self.field}.env[{index}].value",) if index is not None else ()
        if value is None:
            return Word(None, place, f"variable {name} comes from outside the pod spec")
        return Word(value, place)

    @cached_property
    def _env_index(self) -> dict[str, int]:
        return {variable.name: index for index, variable in enumerate(self.container.env)}

    @cached_property
    def _programs(self) -> dict[str, list[tuple[Call, int]]]:
        table: dict[str, list[tuple[Call, int]]] = {}
        for call in self.command.calls:
            for index, word in enumerate(call.words):
                if word.text:
                    table.setdefault(posixpath.basename(word.text), []).append((call, index))
        return table
