"""What a shell script would run: its simple commands, with words filled in as far as can be told.

The script is walked as a shell would walk it, without running anything: both sides of a test are
taken, a loop over known words is taken once for each, functions are called. What differs between
ways that may have been taken is unknown from then on.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from extender.workload import shell_syntax as syntax
from extender.workload.shell_syntax import Node
from extender.workload.shell_values import Budget, Expander, Scope, Value

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
    """

    words: tuple[Value, ...]
    directory: Value
    stdin: Value
    output: Value
    variables: Mapping[str, Value]


class Run(msgspec.Struct, frozen=True):
    """All commands in order; ``variables`` as they are at the end; ``complete`` if all was read."""

    commands: tuple[ShellCommand, ...]
    variables: Mapping[str, Value]
    complete: bool


def run(
    script: str,
    variables: Mapping[str, Value],
    *,
    arguments: Sequence[Value] = (),
    directory: Value = None,
    budget: Budget | None = None,
) -> Run:
    """Return what a script would run. Never raises; what is too long or too deep is incomplete.

    ``budget`` is shared by scripts that run one another, so that all of them together are bounded.
    """
    if len(script) > LONGEST_SCRIPT:
        return Run((), variables, complete=False)
    nodes, complete = syntax.parse(script)
    walker = _Walker(budget or Budget())
    scope = Scope(dict(variables), tuple(arguments), directory)
    try:
        walker.walk(nodes, scope)
    except RecursionError:  # `${a:-${b:-...}}`, or calls, deeper than any person writes
        complete = False
    complete = complete and walker.complete and not walker.budget.exhausted
    return Run(tuple(walker.commands), scope.variables, complete)


class _Walker:
    def __init__(self, budget: Budget) -> None:
        self.commands: list[ShellCommand] = []
        self.budget = budget
        self.complete = True
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
                for command in node.commands:
                    self.walk((command,), self._fork(scope))
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

    def _and_or(self, node: syntax.AndOr, scope: Scope) -> None:
        self.walk((node.first,), scope)
        may_fail = _is_test(node.first)
        for operator, following in node.rest:
            branch = self._fork(scope)
            self.walk((following,), branch)
            if operator == "&&" and not may_fail and not branch.ended:
                scope.become([branch])
            elif not branch.ended:
                scope.become([scope, branch])
            may_fail = may_fail or _is_test(following)

    def _if(self, node: syntax.If, scope: Scope) -> None:
        ways: list[Scope] = []
        for condition, body in node.branches:
            self.walk(condition, scope)
            way = self._fork(scope)
            self.walk(body, way)
            ways.append(way)
        last = self._fork(scope)
        self.walk(node.otherwise, last)
        scope.become([*ways, last])

    def _loop(self, node: syntax.Loop, scope: Scope) -> None:
        lines = self._lines(node, scope)
        if lines is not None:
            names, rows = lines
            self._each(names, rows, node.body, scope)
            return
        self.walk(node.condition, scope)
        once = self._fork(scope)
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
            once.variables.update(zip(names, row, strict=True))
            self.walk(body, once)
            if not once.ended:
                scope.become([once])

    def _case(self, node: syntax.Case, scope: Scope) -> None:
        expander = self._expander(scope)
        value = expander.text(node.word)
        ways = [self._fork(scope)]
        for patterns, body in node.items:
            texts = [expander.text(pattern) for pattern in patterns]
            way = self._fork(scope)
            if value is not None and (value in texts or "*" in texts):
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
        first = expander.fields(node.words[0])
        name = first[0] if first else None
        if name in _DECLARATIONS:
            self._declare(node, expander)
            return
        seen = scope
        if node.assignments:
            seen = self._fork(scope)
            for given in node.assignments:
                self._expander(seen).assign(given)
        words = [*first, *(value for word in node.words[1:] for value in expander.fields(word))]
        if words and not self._builtin(words, scope):
            self._record(words, node.redirects, expander, seen)

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
        self.commands.append(ShellCommand(tuple(words), directory, stdin, output, variables))

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
            case "exec" if rest:
                return False
            case "cd" | "pushd":
                scope.directory = _joined(scope.directory, next(iter(_plain(rest)), "~"))
            case "popd":
                scope.directory = None
            case "unset":
                for variable in rest:
                    scope.variables.pop(variable or "", None)
                    scope.arrays.pop(variable or "", None)
            case "read":
                for variable in rest:
                    scope.variables[variable or ""] = None
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
