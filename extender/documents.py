"""Documents that people write (``apiVersion``, ``kind``): checked whole, all errors at once.

A document is a tree of ``Section`` structs. A list of sections is a ``tuple[S, ...]``; its items
are named by their ``name`` where they have one. Unknown keys are errors, so are keys given twice.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import yaml

from extender.errors import InvalidConfigurationError

API_VERSION = "modelcache.dev/v1alpha1"


NOT_YAML = (
    yaml.YAMLError,
    RecursionError,
    # What the safe constructors raise for a value that is not what its tag or its looks say:
    ValueError,  # 2024-13-01, 0x_, a number with thousands of digits
    AttributeError,  # !!timestamp x
    LookupError,  # !!bool maybe, !!int ""
    TypeError,  # !!set [a]
    ArithmeticError,  # 1:1:...:1.5 with hundreds of parts
)
"""All that PyYAML raises for a text that is no document."""


class Section(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """Base of all parts of a document."""


S = TypeVar("S", bound=Section)


_MISTAKEN = "a value is not the date, number or other thing that it looks like; put it in quotes"


class _Loader(yaml.SafeLoader):
    """Reads YAML as ``yaml.safe_load`` does, and refuses what that takes silently: a key twice."""

    def construct_object(
        self,
        node: yaml.Node,
        deep: bool = False,  # noqa: FBT001, FBT002 - the base's shape
    ) -> Any:
        """Say where a value is that cannot be what it looks like: its own error does not."""
        try:
            return super().construct_object(node, deep=deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except NOT_YAML as error:
            raise yaml.constructor.ConstructorError(
                None, None, f"{_MISTAKEN} ({type(error).__name__})", node.start_mark
            ) from error

    def construct_mapping(
        self,
        node: yaml.Node,
        deep: bool = False,  # noqa: FBT001, FBT002 - the base's shape
    ) -> dict[Hashable, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise yaml.constructor.ConstructorError(
                None, None, "expected a mapping", node.start_mark
            )
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for at, key in enumerate(keys) if key in keys[:at]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {twice!r} is given twice; remove one", node.start_mark
            )
        return super().construct_mapping(node, deep=deep)


def parse_yaml(text: str | bytes, *, name: str) -> Any:
    """Return one YAML document. Raises InvalidConfigurationError with ``name`` in its message."""
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except UnicodeDecodeError as error:
        raise InvalidConfigurationError(f"{name}: cannot be read: {error}") from error
    except NOT_YAML as error:
        raise InvalidConfigurationError(f"{name}: not YAML: {_where(error)}") from error


def _where(error: Exception) -> str:
    """Say what is wrong and in which line, without the line: it may hold a signed address."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return str(error) if isinstance(error, yaml.YAMLError) else type(error).__name__
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem or error.context}"


def load_yaml(path: Path) -> Any:
    """Read a file's one YAML document. Raises InvalidConfigurationError."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InvalidConfigurationError(f"{path}: cannot be read: {error}") from error
    return parse_yaml(text, name=str(path))


def read_document(
    document: Any,
    section: type[S],
    *,
    name: str,
    kind: str,
    further: Callable[[S], list[str]],
) -> S:
    """Check a parsed document and return it typed.

    ``further`` says what is wrong between fields. Raises InvalidConfigurationError, whose message
    lists every error with its field and remedy.
    """
    if not isinstance(document, dict):
        raise InvalidConfigurationError(
            f"{name}: the document is not a mapping; begin it with apiVersion: {API_VERSION}"
        )
    errors: list[str] = []
    for key, expected in (("apiVersion", API_VERSION), ("kind", kind)):
        if document.get(key) != expected:
            errors.append(f"{key}: is {document.get(key)!r}; write {key}: {expected}")
    # What cannot be read counts as left out, so that the rest is checked all the same.
    read = msgspec.convert(_checked(document, section, "", errors), type=section)
    errors += further(read)
    if errors:
        listed = "\n".join(f"  {error}" for error in errors)
        raise InvalidConfigurationError(f"{name}: {len(errors)} error(s)\n{listed}")
    return read


def _checked(value: Any, section: type[Section], prefix: str, errors: list[str]) -> dict[str, Any]:
    """Check a mapping field by field; return what is right of it, say what is wrong."""
    if not isinstance(value, dict):
        errors.append(f"{prefix.rstrip('.')}: is not a mapping")
        return {}
    hints = get_type_hints(section, include_extras=True)
    fields = {field.encode_name: hints[field.name] for field in msgspec.structs.fields(section)}
    right: dict[str, Any] = {}
    for key, given in value.items():
        where = f"{prefix}{key}"
        expected = fields.get(key)
        if expected is None:
            errors.append(f"{where}: unknown key; known here: {', '.join(sorted(fields))}")
        elif _is_section(expected):
            right[key] = _checked(given, expected, f"{where}.", errors)
        elif (item := _item(expected)) is not None:
            right[key] = _checked_items(given, item, where, errors)
        else:
            meant = _meant(given, expected)
            wrong = _value_error(meant, expected, where)
            errors += wrong
            if not wrong:
                right[key] = meant
    return right


def _checked_items(
    value: Any, section: type[Section], where: str, errors: list[str]
) -> list[dict[str, Any]]:
    """Check a list of sections; one that lacks what it needs is said and left out."""
    if not isinstance(value, list):
        errors.append(f"{where}: is not a list")
        return []
    required = [f.encode_name for f in msgspec.structs.fields(section) if f.required]
    right = []
    names = [given.get("name") for given in value if isinstance(given, dict)]
    errors += [
        f"{where}[{name}]: {names.count(name)} have this name; rename all but one"
        for name in sorted({n for n in names if isinstance(n, str) and names.count(n) > 1})
    ]
    for at, given in enumerate(value):
        named = given.get("name") if isinstance(given, dict) else None
        prefix = f"{where}[{named if isinstance(named, str) else at}]."
        item = _checked(given, section, prefix, errors)
        missing = [key for key in required if isinstance(given, dict) and key not in given]
        errors += [f"{prefix}{key}: is missing" for key in missing]
        if all(key in item for key in required):
            right.append(item)
    return right


def _is_section(expected: Any) -> bool:
    return isinstance(expected, type) and issubclass(expected, Section)


def _item(expected: Any) -> type[Section] | None:
    """Return S where ``tuple[S, ...]`` is expected."""
    arguments = get_args(expected) if get_origin(expected) is tuple else ()
    return arguments[0] if arguments and _is_section(arguments[0]) else None


def _meant(given: Any, expected: Any) -> Any:
    """Return a bare ``off`` as the word it was: YAML 1.1 reads it as false."""
    return "off" if given is False and _is_enum(expected) else given


def _value_error(given: Any, expected: Any, where: str) -> list[str]:
    try:
        msgspec.convert(given, expected)
    except msgspec.ValidationError as error:
        choices = [str(member.value) for member in expected] if _is_enum(expected) else []
        remedy = f"; choose one of {', '.join(choices)}" if choices else ""
        return [f"{where}: {_plain(str(error))}{remedy}"]
    return []


def _is_enum(expected: Any) -> bool:
    return (
        isinstance(expected, type) and not get_args(expected) and hasattr(expected, "__members__")
    )


def _plain(text: str) -> str:
    """Drop the path that msgspec appends: the field is named already."""
    return text.split(" - at `", 1)[0]
