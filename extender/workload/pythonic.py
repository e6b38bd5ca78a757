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

LONGEST_PROGRAM = 64 * 1024
MOST_CALLS = 1000

_READERS = {"from_pretrained"}
_FETCHES = {"snapshot_download", "hf_hub_download", *_READERS}
_HARMLESS_MODULES = {"os", "sys", "time", "pathlib", "json", "logging", "huggingface_hub", "signal"}

Value = str | list[str | None] | None
Names = dict[str, Value]


class PythonFetch(NamedTuple):
    """One call. ``directory`` is its ``local_dir``, ``""`` where none is given, None if unknown."""

    repository: str | None
    directory: str | None
    cache: str | None
    revision: str | None
    """None where none is given, or unknown."""


class PythonFetches(NamedTuple):
    """``opaque`` where the program may fetch more than what was read."""

    fetches: tuple[PythonFetch, ...]
    opaque: bool


def python_fetches(program: str, variables: Mapping[str, str | None]) -> PythonFetches:
    """Return what a program fetches. Never raises."""
    if len(program) > LONGEST_PROGRAM:
        return PythonFetches((), opaque=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return PythonFetches((), opaque=True)
    reader = _Reader(variables)
    try:
        reader.block(tree.body)
    except RecursionError:
        reader.opaque = True
    return PythonFetches(tuple(reader.found), reader.opaque)


class _Reader:
    def __init__(self, variables: Mapping[str, str | None]) -> None:
        self._variables = variables
        self._names: Names = {}
        self.found: list[PythonFetch] = []
        self.opaque = False

    def block(self, body: list[ast.stmt]) -> None:
        for statement in body:
            self._statement(statement)

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                self._calls(value)
                self._names[name] = self._evaluate(value)
            case ast.For(target=ast.Name(id=name), iter=values, body=body):
                self._for(name, values, body)
            case ast.If() | ast.While():
                self._calls(node.test)
                self.block(node.body)
                self.block(node.orelse)
            case ast.With():
                for item in node.items:
                    self._calls(item.context_expr)
                self.block(node.body)
            case ast.Try():
                self.block(node.body)
                for handler in node.handlers:
                    self.block(handler.body)
                self.block(node.orelse)
                self.block(node.finalbody)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self.opaque = self.opaque or any(
                    _name(call) in _FETCHES for call in ast.walk(node) if isinstance(call, ast.Call)
                )
            case ast.Import() | ast.ImportFrom():
                self._import(node)
            case _:
                self._calls(node)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        modules = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
        )
        known = _HARMLESS_MODULES | {"transformers", "sentence_transformers", "torch"}
        if any(module.partition(".")[0] not in known for module in modules):
            self.opaque = True

    def _for(self, name: str, values: ast.expr, body: list[ast.stmt]) -> None:
        elements = self._evaluate(values)
        for element in elements if isinstance(elements, list) else [None]:
            if len(self.found) >= MOST_CALLS:
                self.opaque = True
                return
            self._names[name] = element
            self.block(body)
        self._names[name] = None

    def _calls(self, node: ast.AST) -> None:
        for call in ast.walk(node):
            if isinstance(call, ast.Call) and _name(call) in _FETCHES:
                self.found.append(self._fetch(call))

    def _fetch(self, call: ast.Call) -> PythonFetch:
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        if None in given:
            self.opaque = True
        name = _name(call)
        first = "pretrained_model_name_or_path" if name in _READERS else "repo_id"
        repository = call.args[0] if call.args else given.get(first)
        return PythonFetch(
            self._text(repository) if repository is not None else None,
            self._argument(given, "local_dir"),
            self._argument(given, "cache_dir"),
            self._text(given["revision"]) if "revision" in given else None,
        )

    def _argument(self, given: Mapping[str | None, ast.expr], name: str) -> str | None:
        value = given.get(name)
        if value is None or (isinstance(value, ast.Constant) and value.value is None):
            return ""
        return self._text(value)

    def _text(self, node: ast.expr) -> str | None:
        value = self._evaluate(node)
        return value if isinstance(value, str) else None

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
                return next((v for v in map(self._text, values) if v), None)
            case ast.Subscript(value=ast.Attribute(attr="environ"), slice=key):
                return self._variable(self._text(key), None)
            case ast.Call():
                return self._call(node)
        return None

    def _part(self, part: ast.expr) -> str | None:
        return self._text(part.value if isinstance(part, ast.FormattedValue) else part)

    def _call(self, node: ast.Call) -> Value:
        arguments = [self._text(argument) for argument in node.args]
        match _name(node):
            case "getenv":
                return self._variable(arguments[0] if arguments else None, node)
            case "get" if _name_of(getattr(node.func, "value", None)) == "environ":
                return self._variable(arguments[0] if arguments else None, node)
            case "join" if _name_of(getattr(node.func, "value", None)) == "path":
                return _path(arguments)
            case "Path" | "PurePosixPath" | "str" | "joinpath" | "expanduser" if arguments:
                return _path(arguments)
        return None

    def _variable(self, name: str | None, call: ast.Call | None) -> str | None:
        if name is None:
            return None
        if name in self._variables:
            return self._variables[name]
        if call is not None and len(call.args) > 1:
            return self._text(call.args[1])
        return None


def _name(call: ast.Call) -> str:
    return _name_of(call.func)


def _name_of(node: object) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _join(parts: Iterator[str | None]) -> str | None:
    texts = list(parts)
    known = [text for text in texts if text is not None]
    return "".join(known) if len(known) == len(texts) else None


def _path(parts: list[str | None]) -> str | None:
    known = [part for part in parts if part is not None]
    return posixpath.join(*known) if known and len(known) == len(parts) else None
