"""The shell's variables, and words with their variables filled in.

POSIX.1-2024, Shell Command Language, 2.6, with bash's arrays and ``${x//a/b}``. A word whose value
the script does not show (an unset variable may come from the image, a command's output from
anywhere) is ``None``: better no answer than a wrong path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from extender.workload.budget import Budget
from extender.workload.shell_syntax import Assignment, keyed
from extender.workload.shell_words import Word, fragment

LONGEST_WORD = 64 * 1024
"""Longer values become unknown: a script may double a variable again and again."""

LARGEST_ARRAY = 1000
_FIELD = 16
"""Characters that a field costs beside its own: a list of empty words is not free."""

_BRACES = re.compile(r"\{[^{}]*(?:,|\.\.)[^{}]*\}")
_EXPRESSION = re.compile(
    r"(?P<mark>[#!]?)(?P<name>[A-Za-z_]\w*|\d+|[@*#?$!-])(?:\[(?P<key>[^\]]*)\])?"
    r"(?P<operator>:?[-=+?]|##?|%%?|//?|:|\^\^?|,,?)?(?P<rest>.*)",
    re.DOTALL | re.ASCII,
)
_BLANK = re.compile(r"[ \t\n]+")

Value = str | None
Array = dict[str, Value]
Ways = frozenset[tuple[int, int]]
"""The ways that a command lies on: a choice of the script, and which of its branches."""


class Scope:
    """What a running shell knows. ``positional`` and ``directory`` are None where unknown.

    ``heads`` keeps how values that are unknown begin (``/models/`` of ``/models/$X``). ``ways`` is
    where the script is; ``behind`` tells that it goes on beside this (``&``), ``piped`` that input
    comes from the command before.
    """

    def __init__(
        self,
        variables: dict[str, Value],
        positional: tuple[Value, ...] | None,
        directory: str | None,
    ) -> None:
        self.variables = variables
        self.arrays: dict[str, Array] = {}
        self.heads: dict[str, str] = {}
        self.positional = positional
        self.directory = directory
        self.ended = False
        self.ways: Ways = frozenset()
        self.behind = False
        self.piped = False

    def copy(self) -> Scope:
        """Return a scope that changes on its own, as a subshell's."""
        other = Scope(dict(self.variables), self.positional, self.directory)
        other.arrays = dict(self.arrays)
        other.heads = dict(self.heads)
        other.ended = self.ended
        other.ways, other.behind, other.piped = self.ways, self.behind, self.piped
        return other

    def give(self, name: str, value: Value, head: str = "") -> None:
        """Set a variable; ``head`` is how it begins where it is unknown."""
        self.variables[name] = value
        self.heads.pop(name, None)
        if value is None and head:
            self.heads[name] = head

    def become(self, scopes: Iterable[Scope]) -> None:
        """Continue after branches of which any may have run: what differs is unknown."""
        running = [scope for scope in scopes if not scope.ended]
        self.ended = not running
        if not running:
            return
        first, others = running[0], running[1:]
        names = dict.fromkeys(name for scope in running for name in scope.variables)
        self.variables = {
            name: first.variables.get(name)
            if all(
                name in scope.variables and scope.variables[name] == first.variables.get(name)
                for scope in others
            )
            else None
            for name in names
        }
        self.heads = {
            name: head
            for name, head in first.heads.items()
            if all(scope.heads.get(name) == head for scope in others)
        }
        self.arrays = {
            name: values
            for name, values in first.arrays.items()
            if all(scope.arrays.get(name) == values for scope in others)
        }
        same = all(scope.directory == first.directory for scope in others)
        self.directory = first.directory if same else None


class Expander:
    """Fills in words. ``substitute`` tells what a command substitution prints, or None."""

    def __init__(
        self, scope: Scope, budget: Budget, substitute: Callable[[str], str | None]
    ) -> None:
        self._scope = scope
        self._budget = budget
        self._substitute = substitute

    def text(self, word: Word) -> Value:
        """Fill in a word that is not split (an assignment's value, a here-document)."""
        return self._headed_text(word)[0]

    def _headed_text(self, word: Word) -> tuple[Value, str]:
        if len(word) == 1 and word[0].kind == "text" and not word[0].text.startswith("~"):
            return (word[0].text if self._budget.spend(characters=len(word[0].text)) else None), ""
        fields = _Fields(splits=False)
        self._fill(word, fields)
        return self._checked(fields.done(), " "), next(iter(fields.heads), "")

    def fields(self, word: Word) -> list[Value]:
        """Fill in a command's word: unquoted values are split at blanks, lists spread out."""
        return [value for value, _ in self.headed(word)]

    def headed(self, word: Word) -> list[tuple[Value, str]]:
        """Do as ``fields``, and tell how those begin that are unknown."""
        if _has_braces(word):
            return [(None, "")]  # bash makes several words of it, other shells do not
        if len(word) == 1 and word[0].kind == "text" and not word[0].text.startswith("~"):
            self._budget.spend(characters=len(word[0].text) + _FIELD)
            return [(word[0].text, "")]
        fields = _Fields(splits=True)
        self._fill(word, fields)
        done = fields.done()
        if not self._budget.spend(characters=_FIELD * len(done)):
            return [(None, "")]
        values = [self._checked([field], "") for field in done]
        return list(zip(values, fields.heads, strict=True))

    def _checked(self, values: list[Value], separator: str) -> Value:
        known = [value for value in values if value is not None]
        length = sum(map(len, known))
        if len(known) < len(values) or length > LONGEST_WORD:
            return None
        return separator.join(known) if self._budget.spend(characters=length) else None

    def _fill(self, word: Word, fields: _Fields) -> None:
        for index, part in enumerate(word):
            if part.kind == "text":
                home = index == 0 and not part.quoted and re.match(r"~(/|$)", part.text)
                if home:
                    fields.add(self._scope.variables.get("HOME"), quoted=True)
                fields.literal(part.text[1:] if home else part.text, quoted=part.quoted)
            elif part.kind == "command":
                fields.add(self._substitute(part.text), quoted=part.quoted)
            elif part.kind == "param":
                value = self.parameter(part.text, quoted=part.quoted)
                if isinstance(value, list):
                    fields.spread(value, quoted=part.quoted)
                else:
                    fields.add(value, quoted=part.quoted, head=self._scope.heads.get(part.text, ""))
            else:
                fields.add(None, quoted=part.quoted)

    def assign(self, given: Assignment) -> None:
        """Carry out one assignment."""
        scope, name = self._scope, given.name
        if given.is_array:
            elements = dict(scope.arrays.get(name, {})) if given.appends else {}
            for word in given.value:
                self._element(word, elements)  # type: ignore[arg-type]
            scope.arrays[name] = elements
            scope.variables.pop(name, None)
            return
        value, head = self._headed_text(given.value)  # type: ignore[arg-type]
        if given.key is not None:
            key = self.text(fragment(given.key))
            if key is not None and len(scope.arrays.get(name, {})) < LARGEST_ARRAY:
                scope.arrays[name] = {**scope.arrays.get(name, {}), key: value}
            return
        if given.appends:
            before = scope.variables.get(name)
            value = before + value if before is not None and value is not None else None
            value = value if value is None or len(value) <= LONGEST_WORD else None
            head = before + head if before is not None else scope.heads.get(name, "")
        scope.give(name, value, head)
        scope.arrays.pop(name, None)

    def _element(self, word: Word, elements: Array) -> None:
        key, rest = keyed(word)
        if key is not None:
            known = self.text(fragment(key))
            if known is not None:
                elements[known] = self.text(rest)
            return
        for value in self.fields(word):
            if len(elements) < LARGEST_ARRAY:
                elements[str(len(elements))] = value

    def parameter(self, expression: str, *, quoted: bool = False) -> Value | list[Value]:
        """Return the value of what stands in ``${...}``; a list for ``$@`` and whole arrays."""
        found = _EXPRESSION.fullmatch(expression)
        if found is None or not self._budget.spend(characters=len(expression)):
            return None
        if found["mark"] == "#":
            return self._length(found["name"], found["key"])
        if found["mark"] == "!":
            return self._indirect(found["name"], found["key"])
        is_set, value = self._lookup(found["name"], found["key"])
        if isinstance(value, list):
            return value if not found["operator"] else None
        return self._operate(found, is_set=is_set, value=value, quoted=quoted)

    def _operate(self, found: re.Match[str], *, is_set: bool, value: Value, quoted: bool) -> Value:
        operator, rest = found["operator"], found["rest"]
        if not operator:
            return value if not rest else None
        if operator.lstrip(":") in {"-", "=", "+", "?"}:
            return self._default(found, is_set=is_set, value=value, quoted=quoted)
        return self._edited(value, operator, rest)

    def _default(self, found: re.Match[str], *, is_set: bool, value: Value, quoted: bool) -> Value:
        """Choose between a value and the text that stands for it: ``${x:-y}`` and its kin."""
        operator, rest = found["operator"], found["rest"]
        if is_set and value is None:
            return None
        given = is_set and not (operator.startswith(":") and value == "")
        if operator[-1] == "+":
            return self.text(fragment(rest, quoted=quoted)) if given else ""
        if given or operator[-1] == "?":
            return value
        default = self.text(fragment(rest, quoted=quoted))
        if operator[-1] == "=":
            self._scope.give(found["name"], default)
        return default

    def _edited(self, value: Value, operator: str, rest: str) -> Value:
        """Take parts off a value, replace them or change their case: ``${x%.*}``, ``${x//a/b}``."""
        pattern, slash, replacement = rest.partition("/")
        if operator not in {"/", "//"}:
            pattern, slash, replacement = rest, "", ""
        known = self.text(fragment(pattern))
        new = self.text(fragment(replacement)) if slash else ""
        if value is None or known is None or new is None:
            return None
        return _transformed(value, operator, known, new)

    def _lookup(self, name: str, key: str | None) -> tuple[bool, Value | list[Value]]:
        scope = self._scope
        if name in {"@", "*"}:
            return True, list(scope.positional) if scope.positional is not None else None
        if name.isdigit():
            return self._argument(int(name))
        if name in scope.arrays:
            elements = scope.arrays[name]
            if key in {"@", "*"}:
                return True, list(elements.values())
            wanted = self.text(fragment(key)) if key is not None else "0"
            return wanted in elements, elements.get(wanted) if wanted is not None else None
        if key is not None and key not in {"@", "*", "0"}:
            return False, None
        if name == "PWD":
            return True, scope.directory
        return name in scope.variables, scope.variables.get(name)

    def _argument(self, number: int) -> tuple[bool, Value]:
        positional = self._scope.positional
        if positional is None or number == 0:
            return False, None
        if number > len(positional):
            return False, ""
        return True, positional[number - 1]

    def _length(self, name: str, key: str | None) -> Value:
        is_set, value = self._lookup(name, key)
        return str(len(value)) if is_set and value is not None else None

    def _indirect(self, name: str, key: str | None) -> Value | list[Value]:
        if key in {"@", "*"}:
            elements = self._scope.arrays.get(name)
            return list(elements) if elements is not None else None
        target = self._scope.variables.get(name)
        if target is None:
            return None
        return self._lookup(target, None)[1]


def _has_braces(word: Word) -> bool:
    """Tell whether a word is ``{a,b}`` or ``{1..3}``, in part and unquoted."""
    if not any(part.kind == "text" and not part.quoted and "{" in part.text for part in word):
        return False
    bare = "".join(part.text if part.kind == "text" and not part.quoted else "x" for part in word)
    return _BRACES.search(bare) is not None


class _Fields:
    """Collects the fields of one word; ``heads`` tells how those begin that are unknown."""

    def __init__(self, *, splits: bool) -> None:
        self._splits = splits
        self._done: list[Value] = []
        self.heads: list[str] = []
        self._head = ""
        self._open: list[str] = []
        self._started = False
        self._unknown = False

    def literal(self, text: str, *, quoted: bool) -> None:
        self._open.append(text)
        self._started = self._started or quoted or bool(text)

    def add(self, value: Value, *, quoted: bool, head: str = "") -> None:
        if value is None:
            if not self._unknown:
                self._head = "".join([*self._open, head])
            self._unknown = self._started = True
        elif quoted or not self._splits:
            self.literal(value, quoted=quoted)
        else:
            pieces = _BLANK.split(value)
            for index, piece in enumerate(pieces):
                if index:
                    self._close()
                self.literal(piece, quoted=False)

    def spread(self, values: list[Value], *, quoted: bool) -> None:
        if not self._splits:
            known = [value for value in values if value is not None]
            whole = " ".join(known) if len(known) == len(values) else None
            self.add(whole, quoted=True)
            return
        for index, value in enumerate(values):
            if index:
                self._close()
            self.add(value, quoted=quoted)

    def _close(self) -> None:
        if self._started:
            self._done.append(None if self._unknown else "".join(self._open))
            self.heads.append(self._head)
        self._open, self._started, self._unknown, self._head = [], False, False, ""

    def done(self) -> list[Value]:
        self._close()
        return self._done


def _transformed(value: str, operator: str, pattern: str, new: str) -> Value:
    if operator in {"/", "//"}:
        if not pattern or re.search(r"[*?\[]", pattern):
            return None
        return value.replace(pattern, new, -1 if operator == "//" else 1)
    if operator[0] == "#":
        return _without_prefix(value, pattern, longest=operator == "##")
    if operator[0] == "%":
        turned = _without_prefix(value[::-1], pattern[::-1], longest=operator == "%%")
        return turned[::-1] if turned is not None else None
    if pattern:
        return None
    return {"^^": value.upper(), ",,": value.lower()}.get(operator)


def _without_prefix(value: str, pattern: str, *, longest: bool) -> Value:
    """Take off what a pattern of one star and plain text matches; other patterns are unknown."""
    plain = pattern.replace("*", "", 1)
    if re.search(r"[*?\[]", plain):
        return None
    if plain == pattern:
        return value.removeprefix(pattern)
    if pattern.startswith("*"):
        at = value.rfind(plain) if longest else value.find(plain)
        return value[at + len(plain) :] if at >= 0 else value
    if not pattern.endswith("*"):
        return None
    if not value.startswith(plain):
        return value
    return "" if longest else value[len(plain) :]
