"""What a shell script would run: its simple commands, with words filled in as far as can be told.

The script is walked as a shell would walk it, without running anything: both sides of a test are
taken, a loop over known words is taken once for each, functions are called. What differs between
ways that may have been taken is unknown from then on.
"""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from extender.workload import shell_syntax as syntax
from extender.workload.budget import Budget
from extender.workload.shell_syntax import Node
from extender.workload.shell_values import Expander, Scope, Value, Ways

LONGEST_SCRIPT = 256 * 1024
"""Longer scripts are not read (a ConfigMap holds at most 1 MiB)."""

_DEEPEST_CALL = 20
_TESTS = frozenset({"[", "[[", "test"})
_DECLARATIONS = frozenset({"export", "readonly", "local", "declare", "typeset"})
_VARIABLE = 8
"""Characters that a copy of one variable counts as."""

_GLOB = re.compile(r"[*?\[]")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_HERE = frozenset({"<<", "<<-", "<<<"})
_OUTPUT = frozenset({">", ">>", ">|"})


_Row = tuple[Value, ...]
"""The values that a loop gives to its variables in one round."""


class ShellCommand(NamedTuple):
    """One program call. A word, the directory or the input is None where it cannot be told.

    ``stdin`` is the text of a here-document; ``output`` is the file that ``>`` names, ``""``
    without one. ``variables`` are those that the program would see, set in the script or before.
    ``heads`` tell of each word how it begins where it is None. ``ways`` are the branches that it
    lies on, ``behind`` that the script goes on beside it, ``last`` that the script ends with it,
    ``piped`` that its input comes from the command before.
    """

    words: tuple[Value, ...]
    directory: Value
    stdin: Value
    output: Value
    variables: Mapping[str, Value]
    heads: tuple[str, ...] = ()
    ways: Ways = frozenset()
    behind: bool = False
    last: bool = False
    piped: bool = False


class Run(msgspec.Struct, frozen=True):
    """All commands in order; ``variables`` as they are at the end; ``complete`` if all was read."""

    commands: tuple[ShellCommand, ...]
    variables: Mapping[str, Value]
    complete: bool


def run(
    script: str,
    variables: Mapping[str, Value],
    *,
    arguments: Sequence[Value] | None = (),
    directory: Value = None,
    budget: Budget | None = None,
    ways: Ways = frozenset(),
    choices: Iterator[int] | None = None,
) -> Run:
    """Return what a script would run. Never raises; what is too long or too deep is incomplete.

    ``budget`` is shared by scripts that run one another, so that all of them together are bounded.
    ``ways`` is where the script itself lies in another one, ``choices`` numbers those of both.
    ``arguments`` are None where the script gets some that are not known.
    """
    if len(script) > LONGEST_SCRIPT:
        return Run((), variables, complete=False)
    nodes, complete = syntax.parse(script)
    walker = _Walker(budget or Budget(), choices or itertools.count())
    scope = Scope(dict(variables), tuple(arguments) if arguments is not None else None, directory)
    scope.ways = ways
    try:
        walker.walk(nodes, scope)
    except RecursionError:  # `${a:-${b:-...}}`, or calls, deeper than any person writes
        complete = False
    complete = complete and walker.complete and not walker.budget.exhausted
    return Run(tuple(walker.commands), scope.variables, complete)


class _Walker:
    def __init__(self, budget: Budget, choices: Iterator[int]) -> None:
        self.commands: list[ShellCommand] = []
        self.budget = budget
        self.complete = True
        self._choices = choices
        self._functions: dict[str, Node] = {}
        self._calls = 0

    def walk(self, nodes: Sequence[Node], scope: Scope) -> None:
        for node in nodes:
            if scope.ended or not self.budget.spend(steps=1):
                return
            self._node(node, scope)

    def _node(self, node: Node, scope: Scope) -> None:
        match node:
            case syntax.Simple():
                self._simple(node, scope)
            case syntax.Pipeline():
                for index, command in enumerate(node.commands):
                    part = self._fork(scope)
                    part.piped = part.piped or index > 0
                    self.walk((command,), part)
            case syntax.Background():
                beside = self._fork(scope)
                beside.behind = True
                self.walk((node.node,), beside)
            case syntax.AndOr():
                self._and_or(node, scope)
            case syntax.If():
                self._if(node, scope)
            case syntax.Loop():
                self._loop(node, scope)
            case syntax.For():
                self._for(node, scope)
            case syntax.Case():
                self._case(node, scope)
            case syntax.Group():
                self.walk(node.body, self._fork(scope) if node.subshell else scope)
            case syntax.Function():
                self._functions[node.name] = node.body

    def _fork(self, scope: Scope) -> Scope:
        """Copy a scope, and count what that costs."""
        self.budget.spend(characters=_VARIABLE * len(scope.variables))
        return scope.copy()

    # -- ways that may be taken ------------------------------------------------------------------

    def _on(self, scope: Scope, *ways: tuple[int, int]) -> Scope:
        """Copy a scope for what lies on these branches of choices."""
        way = self._fork(scope)
        way.ways = scope.ways.union(ways)
        return way

    def _and_or(self, node: syntax.AndOr, scope: Scope) -> None:
        """Walk ``a && b || c``: all that stands before a ``||`` is one way, what follows another.

        What follows a test by ``&&`` is a way by itself, and so is what ends the script there.
        """
        outer = scope.ways
        falls = [
            (place, next(self._choices))
            for place, (operator, _) in enumerate(node.rest)
            if operator == "||"
        ]
        scope.ways = outer.union((choice, 0) for _, choice in falls)
        self.walk((node.first,), scope)
        may_fail = _is_test(node.first)
        for place, (operator, following) in enumerate(node.rest):
            if not self.budget.spend(characters=_VARIABLE * len(falls)):
                break
            ways = {(choice, int(at == place)) for at, choice in falls if at >= place}
            own = (next(self._choices), 0)
            if operator == "&&":
                ways.add(own)
            scope.ways = outer
            branch, before = self._on(scope, *ways), len(self.commands)
            self.walk((following,), branch)
            if operator == "&&" and not may_fail and not branch.ended:
                self._take_off(own, before)
            if operator == "&&" and not may_fail and not branch.ended:
                scope.become([branch])
            elif not branch.ended:
                scope.become([scope, branch])
            may_fail = may_fail or _is_test(following)
        scope.ways = outer

    def _take_off(self, way: tuple[int, int], start: int) -> None:
        """Take commands off a way that is none: ``a && b; c`` is meant to run all three."""
        self.commands[start:] = [
            command._replace(ways=command.ways - {way}) for command in self.commands[start:]
        ]

    def _if(self, node: syntax.If, scope: Scope) -> None:
        outer, choice = scope.ways, next(self._choices)
        ways: list[Scope] = []
        for branch, (condition, body) in enumerate(node.branches):
            scope.ways = outer | {(choice, branch)}
            self.walk(condition, scope)
            scope.ways = outer
            way = self._on(scope, (choice, branch))
            self.walk(body, way)
            ways.append(way)
        last = self._on(scope, (choice, len(node.branches)))
        self.walk(node.otherwise, last)
        scope.become([*ways, last])

    def _loop(self, node: syntax.Loop, scope: Scope) -> None:
        lines = self._lines(node, scope)
        if lines is not None:
            names, rows = lines
            self._each(names, rows, node.body, scope)
            return
        self.walk(node.condition, scope)
        once = self._on(scope, (next(self._choices), 0))
        self.walk(node.body, once)
        scope.become([scope, once])

    def _lines(self, node: syntax.Loop, scope: Scope) -> tuple[list[str], list[_Row]] | None:
        """Read ``while read a b; do ...; done <<EOF``: the loop's variables and their values."""
        reader = node.condition[0] if len(node.condition) == 1 else None
        if not isinstance(reader, syntax.Simple):
            return None
        expander = self._expander(scope)
        words = [value for word in reader.words for value in expander.fields(word)]
        names = [word for word in words[1:] if word is not None and word != "-r"]
        if words[:1] != ["read"] or not names or not all(map(_IDENTIFIER.fullmatch, names)):
            return None
        text = self._input(node.redirects, expander)
        if text is None:
            return None
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if len(names) == 1:
            return names, [(line,) for line in lines]
        if reader.assignments:  # IFS=, cuts the line elsewhere
            return names, [(None,) * len(names)]
        return names, [_cut(line, len(names)) for line in lines]

    def _for(self, node: syntax.For, scope: Scope) -> None:
        values: list[Value] = []
        if node.words is not None:
            expander = self._expander(scope)
            values = [value for word in node.words for value in expander.fields(word)]
        elif scope.positional is not None:
            values = list(scope.positional)
        self._each([node.name], [(value,) for value in values or [None]], node.body, scope)

    def _each(
        self, names: Sequence[str], rows: Sequence[_Row], body: Sequence[Node], scope: Scope
    ) -> None:
        for row in rows:
            if self.budget.exhausted:
                return
            once = self._fork(scope)
            for name, value in zip(names, row, strict=True):
                once.give(name, value)
            self.walk(body, once)
            if not once.ended:
                scope.become([once])

    def _case(self, node: syntax.Case, scope: Scope) -> None:
        expander = self._expander(scope)
        value, choice = expander.text(node.word), next(self._choices)
        ways = [self._fork(scope)]
        for branch, (patterns, body) in enumerate(node.items):
            texts = [expander.text(pattern) for pattern in patterns]
            way = self._on(scope, (choice, branch))
            if value is not None and (value in texts or "*" in texts):
                way.ways = way.ways if len(ways) > 1 else scope.ways
                self.walk(body, way)
                scope.become([*ways[1:], way])  # one of these, and never none of them
                return
            if value is None or any(text is None or _GLOB.search(text) for text in texts):
                self.walk(body, way)
                ways.append(way)
        scope.become(ways)

    # -- commands --------------------------------------------------------------------------------

    def _expander(self, scope: Scope) -> Expander:
        return Expander(scope, self.budget, lambda script: self._substitute(script, scope))

    def _substitute(self, script: str, scope: Scope) -> str | None:
        """Walk a command substitution; its output is known for a few plain commands."""
        if self._calls >= _DEEPEST_CALL or not self.budget.spend(characters=len(script)):
            self.complete = False
            return None
        before = len(self.commands)
        self._calls += 1
        nodes, complete = syntax.parse(script)
        self.complete = self.complete and complete
        self.walk(nodes, self._fork(scope))
        self._calls -= 1
        ran = self.commands[before:]
        if len(ran) != 1:
            return None
        output = _output(ran[0])
        if output is not None:
            del self.commands[before:]
        return output

    def _simple(self, node: syntax.Simple, scope: Scope) -> None:
        expander = self._expander(scope)
        if not node.words:
            for given in node.assignments:
                expander.assign(given)
            return
        first = expander.headed(node.words[0])
        name = first[0][0] if first else None
        if name in _DECLARATIONS:
            self._declare(node, expander)
            return
        seen = scope
        if node.assignments:
            seen = self._fork(scope)
            for given in node.assignments:
                self._expander(seen).assign(given)
        headed = [*first, *(value for word in node.words[1:] for value in expander.headed(word))]
        words = [word for word, _ in headed]
        if words and not self._builtin(words, scope):
            heads = tuple(head for _, head in headed)
            self._record(words, heads, node.redirects, expander, seen)
            scope.ended = scope.ended or words[0] == "exec"

    def _declare(self, node: syntax.Simple, expander: Expander) -> None:
        for word in node.words[1:]:
            given = syntax.assignment(word)
            if given is not None:
                expander.assign(given)
        for given in node.assignments:  # an array: export X=(a b)
            expander.assign(given)

    def _record(
        self,
        words: list[Value],
        heads: tuple[str, ...],
        redirects: Sequence[syntax.Redirect],
        expander: Expander,
        scope: Scope,
    ) -> None:
        output: Value = ""
        for redirect in redirects:
            if redirect.operator in _OUTPUT and redirect.number in {"", "1"}:
                output = expander.text(redirect.target)
        stdin = self._input(redirects, expander)
        directory, variables = scope.directory, self._fork(scope).variables
        command = ShellCommand(tuple(words), directory, stdin, output, variables, heads)
        self.commands.append(
            command._replace(
                ways=scope.ways,
                behind=scope.behind,
                last=words[0] == "exec",
                piped=scope.piped,
            )
        )

    def _end_with(self, ways: Ways) -> None:
        """Mark the last commands of a way that ends the script: what follows runs without them."""
        for index in range(len(self.commands) - 1, -1, -1):
            command = self.commands[index]
            if not ways or not ways <= command.ways or not self.budget.spend(steps=1):
                return
            self.commands[index] = command._replace(last=True)

    def _input(self, redirects: Sequence[syntax.Redirect], expander: Expander) -> Value:
        for redirect in redirects:
            if redirect.operator == "<<<":
                return expander.text(redirect.target)
            if redirect.operator in _HERE and redirect.body is not None:
                return expander.text(redirect.body)
        return None

    def _builtin(self, words: list[Value], scope: Scope) -> bool:
        """Carry out what changes the shell itself; True where it is done and names no program."""
        name, rest = words[0], words[1:]
        match name:
            case "exit" | "return":
                scope.ended = True
                if name == "exit" and rest[:1] in ([], ["0"], ["$?"], [None]):
                    self._end_with(scope.ways)
            case "exec":
                return not rest  # without a program, it only redirects what follows
            case "cd" | "pushd":
                scope.directory = _joined(scope.directory, next(iter(_plain(rest)), "~"))
            case "popd":
                scope.directory = None
            case "unset":
                for variable in rest:
                    scope.variables.pop(variable or "", None)
                    scope.heads.pop(variable or "", None)
                    scope.arrays.pop(variable or "", None)
            case "read":
                for variable in rest:
                    scope.give(variable or "", None)
            case "set":
                if "--" in rest:
                    scope.positional = tuple(rest[rest.index("--") + 1 :])
            case "shift":
                scope.positional = scope.positional[1:] if scope.positional else None
            case str() if name in self._functions:
                self._call(name, rest, scope)
            case _:
                return False
        return True

    def _call(self, name: str, arguments: Sequence[Value], scope: Scope) -> None:
        if self._calls >= _DEEPEST_CALL:
            self.budget.exhausted = True
            return
        before, scope.positional = scope.positional, tuple(arguments)
        self._calls += 1
        self.walk((self._functions[name],), scope)
        self._calls -= 1
        scope.positional = before
        scope.ended = False  # `return` ends the function alone; `exit` is rare enough there


def _is_test(node: Node) -> bool:
    if not isinstance(node, syntax.Simple) or not node.words:
        return False
    part = node.words[0][0]
    return part.kind == "text" and part.text in _TESTS


def _plain(words: Sequence[Value]) -> list[Value]:
    return [word for word in words if word is None or not word.startswith("-")]


def _cut(line: str, count: int) -> _Row:
    """Cut a line as ``read`` does: the last variable takes the rest, those left over are empty."""
    words = line.split(None, count - 1)
    return (*words, *[""] * (count - len(words)))


def _joined(directory: Value, path: Value) -> Value:
    if path is None or path == "~":
        return None
    if path.startswith("/"):
        return posixpath.normpath(path)
    return posixpath.normpath(posixpath.join(directory, path)) if directory else None


def _output(command: ShellCommand) -> Value:
    """Return what a plain command prints, without the newline that a substitution takes off."""
    known = [word for word in command.words if word is not None]
    if len(known) < len(command.words) or command.output != "":
        return None
    name, rest = known[0], known[1:]
    match name:
        case "pwd" if not rest:
            return command.directory
        case "echo" if not any(word.startswith("-") for word in rest):
            return " ".join(rest)
        case "basename" if len(rest) == 1:
            return posixpath.basename(rest[0].rstrip("/"))
        case "dirname" if len(rest) == 1:
            return posixpath.dirname(rest[0].rstrip("/")) or "."
    return None
