"""docs/openapi.yaml as the tests read it, and a check of values against the schemas it uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).resolve().parents[2] / "docs" / "openapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
OPERATIONS: dict[tuple[str, str], dict[str, Any]] = {
    (path, method.upper()): operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
KEYWORDS = {
    "type", "items", "properties", "required", "additionalProperties", "minimum", "maximum",
    "description",
}  # fmt: skip


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference within the document."""
    if "$ref" not in part:
        return part
    found: Any = DOCUMENT
    for step in part["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return resolved(found)


def responses(path: str, method: str) -> dict[int, dict[str, Any]]:
    """The documented answers of an operation by their status."""
    documented = OPERATIONS[path, method]["responses"]
    return {int(status): resolved(response) for status, response in documented.items()}


def problems(value: Any, schema: dict[str, Any], where: str = "$") -> list[str]:
    """What is wrong with a value, by the part of JSON Schema that the document uses."""
    schema = resolved(schema)
    assert schema.keys() <= KEYWORDS, schema.keys() - KEYWORDS
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    fits = [kind for kind in kinds if isinstance(value, TYPES[kind])]
    if not fits or (isinstance(value, bool) and fits != ["boolean"]):
        return [f"{where} is {value!r:.80}, not {' or '.join(kinds)}"]
    found = []
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        found += [f"{where} has no {key}" for key in schema.get("required", ()) if key not in value]
        for key, item in value.items():
            if key in known or isinstance(others, dict):
                found += problems(item, known.get(key, others), f"{where}.{key}")
            elif others is False:
                found.append(f"{where} has {key}, which is not documented")
    elif isinstance(value, list):
        for position, item in enumerate(value):
            found += problems(
                item, schema.get("items", {"type": list(TYPES)}), f"{where}[{position}]"
            )
    elif isinstance(value, int | float) and not (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
    ):
        found.append(f"{where} is {value}, out of its bounds")
    return found
