"""What a program keeps: the number of entries of every container that an object can be asked for.

Containers are found by following attributes, closures and elements, so that one that is added
tomorrow is counted too. A cache or a deque with a bound is counted by nobody: its bound says it.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sized
from collections.abc import Set as AbstractSet
from functools import partial
from importlib import import_module
from inspect import signature
from pkgutil import walk_packages
from threading import Thread
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

from cachetools import Cache

import extender

_FOLLOWED = ("extender.", "prometheus_client.")
"""Objects of these packages are looked into; those of others are theirs to bound."""


def entries(*roots: object, bounds: Mapping[str, int]) -> Counter[str]:
    """Count what is kept, by the class and attribute that keeps it (``Ledger.pods``).

    ``bounds`` names containers that throw away by their number, with the most that they keep.
    """
    counts: Counter[str] = Counter()
    seen: dict[int, object] = {}  # the objects too, so that no identity is given twice
    left: list[tuple[str, object]] = [(type(root).__name__, root) for root in roots]
    while left:
        name, found = left.pop()
        if id(found) in seen or _is_bounded(found):
            continue
        seen[id(found)] = found
        if name in bounds and isinstance(found, Sized):
            assert len(found) <= bounds[name], f"{name} keeps {len(found)}"
            continue
        if isinstance(found, Mapping | AbstractSet | list | tuple | deque):
            counts[name] += len(found)
        left += _inside(name, found)
    return counts


def modules() -> list[ModuleType]:
    """Return the program's modules: what they keep, they keep for ever."""
    return [module for name, module in sorted(sys.modules.items()) if name.startswith("extender.")]


def endless_caches() -> list[str]:
    """Name the functions of the whole package whose answers are cached without a bound.

    One without parameters has a single answer.
    """
    for module in walk_packages(extender.__path__, "extender."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    return [
        f"{module.__name__}.{name}"
        for module in modules()
        for name, found in vars(module).items()
        if hasattr(found, "cache_info")
        and found.cache_info().maxsize is None
        and signature(found).parameters
    ]


def _is_bounded(found: object) -> bool:
    return isinstance(found, Cache) or (isinstance(found, deque) and found.maxlen is not None)


def _inside(name: str, found: object) -> Iterator[tuple[str, Any]]:
    """Yield what an object refers to, with the name that it is counted under."""
    match found:
        case str() | bytes() | int() | float() | None | type():
            return
        case Mapping():
            for key, value in _now(found.items):
                yield f"{name}[key]", key
                yield f"{name}[]", value
        case AbstractSet() | list() | tuple() | deque():
            for value in _now(found.__iter__):
                yield f"{name}[]", value
        case MethodType():
            yield name, found.__self__
            yield name, found.__func__
        case FunctionType():
            yield from ((name, cell) for cell in found.__closure__ or ())
        case CellType():
            yield name, found.cell_contents
        case partial():
            yield from (
                (name, each) for each in (found.func, *found.args, *found.keywords.values())
            )
        case Thread():
            yield name, getattr(found, "_target", None)
        case ModuleType():
            for key, value in list(vars(found).items()):
                if not isinstance(value, ModuleType | FunctionType):
                    yield f"{found.__name__}.{key}", value
        case _ if f"{type(found).__module__}.".startswith(_FOLLOWED):
            for attribute, value in _attributes(found):
                yield f"{type(found).__name__}.{attribute}", value


def _attributes(found: object) -> Iterator[tuple[str, Any]]:
    yield from list(getattr(found, "__dict__", {}).items())
    slots = [vars(kind).get("__slots__", ()) for kind in type(found).__mro__]
    for names in slots:
        for name in (names,) if isinstance(names, str) else names:
            if hasattr(found, name):
                yield name, getattr(found, name)


def _now(each: Callable[[], Any]) -> list[Any]:
    """Return the elements of this moment, though another thread may be changing them."""
    while True:
        try:
            return list(each())
        except RuntimeError:  # changed size during iteration
            continue
