"""What a short Python program fetches: ``snapshot_download`` and its kin, arguments filled in.

The program is parsed, never run. Literals, names assigned once in a row, f-strings, environment
variables, ``os.path.join`` and ``Path`` are understood; loops over literal lists are taken once
for each element. Everything else is unknown.
"""

from __future__ import annotations

import ast
import posixpath
import warnings
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from extender.workload.budget import Budget

LONGEST_PROGRAM = 64 * 1024
LONGEST_TEXT = 4096
MOST_CALLS = 1000
MOST_STEPS = 10_000
"""Parts of statements that are looked at, and variables that are copied."""
MOST_CHARACTERS = 100_000
"""Text that is parsed."""

_READERS = {"from_pretrained"}
_FETCHES = {"snapshot_download", "hf_hub_download", *_READERS}
_RUNS = {"system", "popen", "rename", "renames", "replace", "symlink", "link", "__import__"}
_RUNS |= {"exec", "eval", "compile"}
_MOVES = {"symlink_to", "hardlink_to", "rename"}
_KNOWN_MODULES = frozenset(
    "os sys time pathlib json logging huggingface_hub signal transformers sentence_transformers "
    "torch __future__ argparse collections contextlib dataclasses datetime enum functools glob "
    "hashlib itertools math random re string traceback typing warnings".split()
)
"""Modules that fetch nothing but through the calls that are read here."""

Value = str | list[str | None] | None
Names = dict[str, Value]


class PythonFetch(NamedTuple):
    """One call. ``directory`` is its ``local_dir``, ``""`` where none is given, None if unknown."""

    repository: str | None
    directory: str | None
    cache: str | None
    revision: str | None
    """None where none is given, or unknown."""
    variables: Mapping[str, str | None]
    """The environment at the call."""
    head: str = ""
    """How the directory begins where it is unknown: ``/models/`` of ``f"/models/{x}"``."""


class PythonFetches(NamedTuple):
    """``opaque`` where the program may fetch more than what was read."""

    fetches: tuple[PythonFetch, ...]
    opaque: bool


def python_budget() -> Budget:
    """Return what all programs of a pod may cost together."""
    return Budget(steps=MOST_STEPS, characters=MOST_CHARACTERS)


def python_fetches(
    program: str, variables: Mapping[str, str | None], *, budget: Budget | None = None
) -> PythonFetches:
    """Return what a program fetches. Never raises; once the budget is spent, it is opaque."""
    budget = budget or python_budget()
    if len(program) > LONGEST_PROGRAM or not budget.spend(characters=len(program)):
        return PythonFetches((), opaque=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return PythonFetches((), opaque=True)
    reader = _Reader(variables, budget)
    try:
        reader.block(tree.body)
    except RecursionError:
        reader.opaque = True
    return PythonFetches(tuple(reader.found), reader.opaque)


class _Reader:
    """Follows a program. ``_names`` holds its variables, and its environment as ``$NAME``."""

    def __init__(self, variables: Mapping[str, str | None], budget: Budget) -> None:
        self._variables = variables
        self._names: Names = {}
        self._aliases: dict[str, str] = {}
        self._budget = budget
        self.found: list[PythonFetch] = []
        self.opaque = False

    def block(self, body: list[ast.stmt]) -> None:
        for statement in body:
            if not self._spend(1):
                return
            self._statement(statement)

    def _spend(self, steps: int) -> bool:
        left = self._budget.spend(steps=steps)
        self.opaque = self.opaque or not left
        return left

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self._set(name, value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                self._set(name, value)
            case ast.AugAssign(target=ast.Name(id=name), op=ast.Add(), value=value):
                self._set(name, ast.BinOp(ast.Name(name, ast.Load()), ast.Add(), value))
            case ast.Assign(targets=[ast.Subscript(value=table, slice=key)], value=value) if (
                _name_of(table) == "environ"
            ):
                self._set(f"${self._text(key)}", value)
            case ast.Expr(
                ast.Call(func=ast.Attribute(attr="setdefault", value=table), args=args)
            ) if _name_of(table) == "environ" and len(args) == 2:
                self._set_default(self._text(args[0]), args[1])
            case ast.For():
                self._for(node)
            case ast.If():
                self._calls(node.test)
                self._ways([node.body, node.orelse])
            case ast.While():
                self._forget(node)
                self._calls(node.test)
                self._ways([[*node.body, *node.orelse], []])
            case ast.With():
                self._with(node)
            case ast.Try():
                handlers = [handler.body for handler in node.handlers]
                self._ways([[*node.body, *node.orelse], *handlers])
                self.block(node.finalbody)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self.opaque = self.opaque or any(map(self._may_fetch, ast.walk(node)))
            case ast.Import() | ast.ImportFrom():
                self._import(node)
            case _:
                self._calls(node)
                self._forget(node)

    def _set(self, name: str, value: ast.expr) -> None:
        self._calls(value)
        self._names[name] = self._evaluate(value)

    def _set_default(self, variable: str | None, value: ast.expr) -> None:
        if variable not in self._variables and f"${variable}" not in self._names:
            self._set(f"${variable}", value)

    def _with(self, node: ast.With) -> None:
        for item in node.items:
            self._calls(item.context_expr)
            if item.optional_vars is not None:
                self._forget(item.optional_vars)
        self.block(node.body)

    def _forget(self, node: ast.AST) -> None:
        """Take what is assigned anywhere in a node for unknown."""
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                self._names[inner.id] = None

    def _ways(self, bodies: list[list[ast.stmt]]) -> None:
        """Read blocks of which any may run: what differs after them is unknown."""
        before, after = self._names, list[Names]()
        for body in bodies:
            if not self._spend(1 + len(before)):
                return
            self._names = dict(before)
            self.block(body)
            after.append(self._names)
        first, others = after[0], after[1:]
        self._names = {
            name: first.get(name)
            if all(name in way and way[name] == first.get(name) for way in others)
            else None
            for way in after
            for name in way
        }

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        modules = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
        )
        for alias in node.names:
            if alias.asname and alias.name in _FETCHES:
                self._aliases[alias.asname] = alias.name
        if any(module.partition(".")[0] not in _KNOWN_MODULES for module in modules):
            self.opaque = True

    def _for(self, node: ast.For) -> None:
        rows = self._rows(node)
        self._calls(node.iter)
        self._forget(node)
        for row in rows or [{}]:
            self._names.update(row)
            self.block(node.body)
            if len(self.found) >= MOST_CALLS:
                self.opaque = True
                return
        self._forget(node)
        self.block(node.orelse)

    def _rows(self, node: ast.For) -> list[Names]:
        """Return the loop's variables for each round of a literal list; empty where unknown."""
        match node.target, node.iter:
            case ast.Name(id=name), listed:
                elements = self._evaluate(listed)
                return [{name: e} for e in elements] if isinstance(elements, list) else []
            case ast.Tuple(elts=targets), ast.List(elts=rows) | ast.Tuple(elts=rows):
                names = [_name_of(target) for target in targets]
                values = [self._evaluate(row) for row in rows]
                return [
                    dict(zip(names, v, strict=True))
                    if isinstance(v, list) and len(v) == len(names)
                    else dict.fromkeys(names)
                    for v in values
                ]
        return []

    def _calls(self, node: ast.AST) -> None:
        """Look for fetches in an expression; what a comprehension assigns is unknown in it."""
        parts = list(ast.walk(node))
        if not self._spend(len(parts)):
            return
        called = {id(part.func) for part in parts if isinstance(part, ast.Call)}
        for part in parts:
            if isinstance(part, ast.comprehension | ast.NamedExpr):
                self._forget(part.target)
        for inner in parts:
            if isinstance(inner, ast.Call):
                self._fetch_call(inner)
            elif id(inner) not in called and self._may_fetch(inner):
                self.opaque = True  # handed on, to be called elsewhere

    def _fetch_call(self, call: ast.Call) -> None:
        name = self._name(call)
        if name == "save_pretrained":
            directory = self._text(call.args[0]) if call.args else None
            self.found.append(PythonFetch(None, directory, "", None, self._environment()))
        elif name in _READERS and not self._may_download(call):
            return
        elif name in _FETCHES:
            self.found.append(self._fetch(call))
        elif self._may_fetch(call.func):
            self.opaque = True

    def _may_download(self, call: ast.Call) -> bool:
        """Tell ``from_pretrained("org/name")`` from one that opens a local directory."""
        for keyword in call.keywords:
            value = keyword.value
            if keyword.arg == "local_files_only" and isinstance(value, ast.Constant):
                return not value.value
        first = self._text(call.args[0]) if call.args else None
        return first is None or not first.startswith(("/", "./", "../", "~"))

    def _may_fetch(self, node: ast.AST) -> bool:
        """Tell whether a node names something that fetches, moves files or runs other programs."""
        match node:
            case ast.Attribute(value=ast.Name(id="os"), attr=name):
                return name in _RUNS or name.startswith(("exec", "spawn"))
            case ast.Attribute(attr=name):
                return name in _FETCHES or name in _MOVES
            case ast.Name(id=name):
                name = self._aliases.get(name, name)
                return name in _FETCHES or name in _RUNS or name in _MOVES
        return False

    def _name(self, call: ast.Call) -> str:
        name = _name_of(call.func)
        return self._aliases.get(name, name) if isinstance(call.func, ast.Name) else name

    def _environment(self) -> dict[str, str | None]:
        """Return the variables that a call sees: the container's, and those set on the way."""
        own = {
            name[1:]: value if isinstance(value, str) else None
            for name, value in self._names.items()
            if name.startswith("$")
        }
        return {**self._variables, **own}

    def _fetch(self, call: ast.Call) -> PythonFetch:
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        if None in given:
            self.opaque = True
        name = self._name(call)
        first = "pretrained_model_name_or_path" if name in _READERS else "repo_id"
        repository = call.args[0] if call.args else given.get(first)
        place = given.get("local_dir") or given.get("cache_dir")
        return PythonFetch(
            self._text(repository) if repository is not None else None,
            self._argument(given, "local_dir"),
            self._argument(given, "cache_dir"),
            self._text(given["revision"]) if "revision" in given else None,
            self._environment(),
            self._head(place) if place is not None else "",
        )

    def _argument(self, given: Mapping[str | None, ast.expr], name: str) -> str | None:
        value = given.get(name)
        if value is None or (isinstance(value, ast.Constant) and value.value is None):
            return ""
        return self._text(value)

    def _text(self, node: ast.expr) -> str | None:
        value = self._evaluate(node)
        return value if isinstance(value, str) else None

    def _head(self, node: ast.expr) -> str:
        """Return how a text that is unknown begins, as far as the expression shows it."""
        whole = self._text(node)
        if whole is not None:
            return whole
        match node:
            case ast.JoinedStr(values=[first, *_]):
                return self._part(first) or ""
            case ast.BinOp(left=left, op=ast.Add()):
                return self._head(left)
            case ast.BinOp(left=left, op=ast.Div()):
                return self._directory_head(left)
            case ast.Call(func=ast.Attribute(attr="join", value=owner), args=[first, *_]) if (
                _name_of(owner) == "path"
            ):
                return self._directory_head(first)
            case ast.Call(func=ast.Attribute(attr="joinpath", value=owner)):
                return self._directory_head(owner)
            case ast.Call(args=[only]) if self._name(node) in {"str", "Path", "PurePosixPath"}:
                return self._head(only)
        return ""

    def _directory_head(self, node: ast.expr) -> str:
        """Return a directory with the slash that joining puts behind it."""
        head = self._head(node)
        return f"{head}/" if head and self._text(node) is not None else head

    def _evaluate(self, node: ast.expr) -> Value:
        match node:
            case ast.Constant(value=str() as text):
                return text
            case ast.Name(id=name):
                return self._names.get(name)
            case ast.List(elts=elements) | ast.Tuple(elts=elements) | ast.Set(elts=elements):
                return [self._text(element) for element in elements]
            case ast.JoinedStr(values=parts):
                return _join(self._part(part) for part in parts)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return _join(iter((self._text(left), self._text(right))))
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return _path([self._text(left), self._text(right)])
            case ast.BoolOp(op=ast.Or(), values=values):
                return self._first(values)
            case ast.Subscript(value=ast.Attribute(attr="environ"), slice=key):
                return self._variable(self._text(key), None)
            case ast.Call():
                return self._call(node)
        return None

    def _part(self, part: ast.expr) -> str | None:
        if not isinstance(part, ast.FormattedValue):
            return self._text(part)
        plain = part.format_spec is None and part.conversion in {-1, ord("s")}
        return self._text(part.value) if plain else None

    def _call(self, node: ast.Call) -> Value:
        arguments = [self._text(argument) for argument in node.args]
        match self._name(node):
            case "getenv":
                return self._variable(arguments[0] if arguments else None, node)
            case "get" if _name_of(getattr(node.func, "value", None)) == "environ":
                return self._variable(arguments[0] if arguments else None, node)
            case "join" if _name_of(getattr(node.func, "value", None)) == "path":
                return _path(arguments)
            case "joinpath" if isinstance(node.func, ast.Attribute):
                return _path([self._text(node.func.value), *arguments])
            case "Path" | "PurePosixPath" | "str" | "expanduser" if arguments:
                return _path(arguments)
        return None

    def _first(self, values: list[ast.expr]) -> str | None:
        """Evaluate ``a or b``: a variable that is not set counts as empty, as for a default."""
        for value in values:
            text = self._text(value)
            if text is None and self._text(_with_default(value)) != "":
                return None
            if text:
                return text
        return None

    def _variable(self, name: str | None, call: ast.Call | None) -> str | None:
        if name is None:
            return None
        known = self._names.get(f"${name}", self._variables.get(name))
        if f"${name}" in self._names or name in self._variables:
            return known if isinstance(known, str) else None
        if call is not None and len(call.args) > 1:
            return self._text(call.args[1])
        return None


def _with_default(node: ast.expr) -> ast.expr:
    """Return ``os.getenv(x)`` with an empty default; other expressions as they are."""
    if not isinstance(node, ast.Call) or _name_of(node.func) not in {"getenv", "get"}:
        return node
    return ast.Call(node.func, [*node.args[:1], ast.Constant("")], [])


def _name_of(node: object) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _join(parts: Iterator[str | None]) -> str | None:
    texts = list(parts)
    known = [text for text in texts if text is not None]
    return _short("".join(known)) if len(known) == len(texts) else None


def _path(parts: list[str | None]) -> str | None:
    known = [part for part in parts if part is not None]
    return _short(posixpath.join(*known)) if known and len(known) == len(parts) else None


def _short(text: str) -> str | None:
    """Return a text that may still be a path; a program may double one again and again."""
    return text if len(text) <= LONGEST_TEXT else None
