"""What a container runs: its words, each with the field it was read from.

Serving stacks are recognised by their command line, which a pod spec may hide: the image's own
entrypoint, ``sh -c`` scripts, ``exec``, wrappers such as ``env`` or ``mpirun``, variables of both
the kubelet (``$(NAME)``) and the shell (``$NAME``). Here all of it becomes plain calls: a program's
words, filled in as far as the spec tells.
"""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Iterator, Sequence

import msgspec

from extender.kube.objects import Container
from extender.workload.budget import Budget
from extender.workload.expand import Environment, expand, references
from extender.workload.shell import ShellCommand, run
from extender.workload.shell_values import Ways

_SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh"})
_SHELL_COMMAND_OPTION = re.compile(r"-[a-z]*c")
_DEEPEST = 3
_ELSEWHERE = frozenset("chroot nsenter ssh kubectl docker podman nerdctl crictl ctr".split())
"""They run a shell too, but not among this container's files."""

_UNSET = "__unset__"
"""A variable that no script sets."""

_MUTE = frozenset({"echo", "printf", ":", "alias", "grep", "test", "[", "[["})


class Word(msgspec.Struct, frozen=True, gc=False):
    """One word of a command line, or a variable's value.

    ``text`` is None where it cannot be read from the spec, and ``unknown`` says why; ``head`` is
    how it begins then (``/models/`` of ``/models/$X``).
    """

    text: str | None
    read_from: tuple[str, ...] = ()
    unknown: str = ""
    head: str = ""

    @property
    def shown(self) -> str:
        """Return as much of the word as can be read."""
        return self.head if self.text is None else self.text


class Call(msgspec.Struct, frozen=True):
    """One program call. ``entrypoint`` is true where the image's own entrypoint comes first.

    ``directory`` is where it runs and ``stdin`` what a here-document gives it, None where that
    cannot be told; ``output`` is the file that its output goes to, ``""`` without one. The rest is
    as in ``shell.ShellCommand``: the branches of the script that it lies on, and how it ends.
    """

    words: tuple[Word, ...]
    entrypoint: bool = False
    directory: str | None = None
    stdin: str | None = None
    output: str | None = ""
    variables: Environment = {}
    ways: Ways = frozenset()
    behind: bool = False
    last: bool = False
    piped: bool = False

    def option(self, *names: str) -> Word | None:
        """Return the value of ``--name value`` or ``--name=value``; the last one wins.

        Dashes and underscores in long names are the same, as in the stacks' own parsers.
        """
        for index in range(len(self.words) - 1, -1, -1):
            value = _option_value(self.words, index, names)
            if value is not None:
                return value
        return None

    def options(self, *names: str) -> list[Word]:
        """Return all values of an option that takes several words, or comes several times."""
        values: list[Word] = []
        for index, word in enumerate(self.words):
            value = _option_value(self.words, index, names)
            if value is None:
                continue
            values.append(value)
            if "=" not in (word.text or "") or _flag(word.text or "") in names:
                values.extend(_until_option(self.words[index + 2 :]))
        return values

    def has(self, *names: str) -> bool:
        """Tell whether an option is there, with a value or without."""
        return any(_flag(word.shown.partition("=")[0]) in names for word in self.words)

    def positional(self, switches: frozenset[str] = frozenset()) -> Word | None:
        """Return the first word that is neither an option nor, for all we know, an option's value.

        ``switches`` are options that take no value.
        """
        taken = False
        for word in self.words:
            text = word.shown
            if text.startswith("-") and text != "-":
                taken = "=" not in text and _flag(text) not in switches
            elif taken:
                taken = False
            else:
                return word
        return None


class CommandLine(msgspec.Struct, frozen=True):
    """All calls of a container. ``scripted`` where a shell runs them.

    ``variables`` are the container's and those that its script sets; ``complete`` is false where
    the script could not be read to its end. ``mounts`` are the directories that are there from the
    start: ``cp -r X DIR`` makes ``DIR/X`` of those.
    """

    calls: tuple[Call, ...]
    variables: Environment
    scripted: bool = False
    complete: bool = True
    mounts: tuple[str, ...] = ()


def command_line(
    container: Container, field: str, variables: Environment, budget: Budget | None = None
) -> CommandLine:
    """Read ``command`` and ``args``; ``field`` is the container's place (``containers[0]``)."""
    budget = budget or Budget()
    index = {variable.name: number for number, variable in enumerate(container.env)}
    words = [
        _kubelet_word(
            text,
            f"{field}.{part}[{number}]",
            variables,
            index,
            field,
            budget=budget,
            hidden=bool(container.env_from),
        )
        for part, texts in (("command", container.command), ("args", container.args))
        for number, text in enumerate(texts)
    ]
    return _line(container, words, variables, budget, entrypoint=not container.command)


def hook_line(
    container: Container,
    command: Sequence[str],
    field: str,
    variables: Environment,
    budget: Budget,
) -> CommandLine:
    """Read what the kubelet runs in a container beside it; it fills in no variables there."""
    words = [Word(text, (f"{field}[{number}]",)) for number, text in enumerate(command)]
    return _line(container, words, variables, budget, entrypoint=False)


def _line(
    container: Container,
    words: Sequence[Word],
    variables: Environment,
    budget: Budget,
    *,
    entrypoint: bool,
) -> CommandLine:
    reader = _Reader(dict(variables), container.working_dir or None, budget)
    call = Call(
        tuple(words), entrypoint=entrypoint, directory=reader.directory, variables=variables
    )
    reader.read(call, depth=0)
    return CommandLine(
        tuple(reader.calls),
        reader.variables,
        reader.scripted,
        reader.complete,
        tuple(mount.mount_path for mount in container.volume_mounts),
    )


class _Reader:
    """Takes shells apart, and keeps the variables that scripts set."""

    def __init__(self, variables: Environment, directory: str | None, budget: Budget) -> None:
        self.variables = variables
        self.directory = directory
        self.calls: list[Call] = []
        self.scripted = False
        self.complete = True
        self._budget = budget
        self._choices = itertools.count()

    def read(self, call: Call, *, depth: int) -> None:
        script = _script(call) if depth < _DEEPEST else None
        if script is None:
            self.calls.append(call)
            return
        self.scripted = True
        text, positional = script
        marker = _xargs_marker(call)
        if marker is not None:  # what it runs for is not known, nor how often
            self.complete = False
            shown = (text.text or "").replace(marker, f"${{{_UNSET}}}") if marker else text.text
            text = msgspec.structs.replace(text, text=shown)
        if text.text is None or not self._budget.spend(characters=len(text.text)):
            self.complete = False
            return
        ran = run(
            text.text,
            call.variables,
            arguments=None if marker is not None else [word.text for word in positional],
            directory=call.directory,
            budget=self._budget,
            ways=call.ways,
            choices=self._choices,
        )
        self.complete = self.complete and ran.complete
        for command in ran.commands:
            if command.words[0] not in _MUTE or command.output != "":
                inner = _call(command, text.read_from)
                if call.behind or call.last:
                    inner = msgspec.structs.replace(
                        inner, behind=call.behind or inner.behind, last=call.last or inner.last
                    )
                self.read(inner, depth=depth + 1)
        if depth == 0:
            self.variables = ran.variables


def _call(command: ShellCommand, read_from: tuple[str, ...]) -> Call:
    return Call(
        tuple(
            Word(text, read_from)
            if text is not None
            else Word(None, read_from, "the script does not show its value", head)
            for text, head in zip(command.words, command.heads, strict=True)
        ),
        directory=command.directory,
        stdin=command.stdin,
        output=command.output,
        variables=command.variables,
        ways=command.ways,
        behind=command.behind,
        last=command.last,
        piped=command.piped,
    )


def _script(call: Call) -> tuple[Word, Sequence[Word]] | None:
    """Find ``sh -c SCRIPT [NAME [ARG...]]`` or a script on stdin; None where no shell runs one."""
    words = call.words
    index = next(
        (n for n, w in enumerate(words) if posixpath.basename(w.text or "") in _SHELLS), len(words)
    )
    before = [word.text for word in words[:index]]
    if index == len(words) or None in before:
        return None
    if any(posixpath.basename(text or "") in _ELSEWHERE for text in before):
        return None
    for place in range(index + 1, len(words)):
        text = words[place].text
        if text is None or not (text.startswith(("-", "+")) or text in {"pipefail", "errexit"}):
            return None
        if _SHELL_COMMAND_OPTION.fullmatch(text) and place + 1 < len(words):
            return words[place + 1], words[place + 3 :]
    if call.stdin is not None:
        return Word(call.stdin, words[index].read_from), ()
    return None


def _xargs_marker(call: Call) -> str | None:
    """Return what ``xargs -I`` replaces, ``""`` without one; None where ``xargs`` runs nothing."""
    texts = [word.text or "" for word in call.words]
    names = [posixpath.basename(text) for text in texts]
    if "xargs" not in names:
        return None
    options = itertools.takewhile(lambda text: text not in _SHELLS, texts[names.index("xargs") :])
    given = list(options)
    for option, following in itertools.pairwise([*given, ""]):
        if option.startswith("-I"):
            return option[2:] or following
    return ""


def _kubelet_word(
    text: str,
    place: str,
    variables: Environment,
    index: dict[str, int],
    field: str,
    *,
    budget: Budget,
    hidden: bool,
) -> Word:
    if "$" not in text:
        return Word(text, (place,))
    named = references(text)
    names = [name for name in named if name in index]
    places = (place, *(f"{field}.env[{index[name]}].value" for name in dict.fromkeys(names)))
    filled = expand(text, variables, budget, hidden=hidden)
    if filled is None:
        outside = next((name for name in named if variables.get(name) is None), "")
        why = f"variable {outside} comes from outside the pod spec"
        if budget.exhausted:
            why = "the pod's variables are too long to be filled in"
        return Word(None, places, why, text.partition("$")[0])
    return Word(filled, places)


def _flag(text: str) -> str:
    """Return an option's name as the tables write it: long names with dashes."""
    return text.replace("_", "-") if text.startswith("--") else text


def _option_value(words: Sequence[Word], index: int, names: Sequence[str]) -> Word | None:
    word = words[index]
    text = word.shown
    if not text.startswith("-"):
        return None
    if _flag(text) in names and word.text is not None:
        following = words[index + 1] if index + 1 < len(words) else None
        if following is None or (following.text or "").startswith("--"):
            return None
        return following
    name, equals, value = text.partition("=")
    if equals and _flag(name) in names:
        if word.text is None:
            return Word(None, word.read_from, word.unknown, value)
        return Word(value, word.read_from)
    return None


def _until_option(words: Sequence[Word]) -> Iterator[Word]:
    for word in words:
        if word.shown.startswith("-"):
            return
        yield word
