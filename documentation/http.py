"""docs/openapi.yaml as a page: operations by tag, then the forms of bodies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from documentation.tables import code, table

_FILE = Path(__file__).resolve().parent.parent / "docs" / "openapi.yaml"
Part = dict[str, Any]


def interface() -> str:
    """Return the whole interface."""
    return "\n\n".join(_Interface(yaml.safe_load(_FILE.read_text("utf-8"))).lines())


class _Interface:
    def __init__(self, document: Part) -> None:
        self._document = document

    def lines(self) -> Iterator[str]:
        yield self._document["info"]["description"]
        servers = [(code(s["url"]), s["description"]) for s in self._document["servers"]]
        yield table(("address", "what answers there"), servers)
        for tag in self._document["tags"]:
            said = tag.get("description", "")
            yield f"## {tag['name'].capitalize()}{f': {said}' if said else ''}"
            for path, methods in self._document["paths"].items():
                for method, operation in methods.items():
                    if tag["name"] in operation["tags"]:
                        yield from self._operation(f"{method.upper()} {path}", operation)
        yield "## Forms"
        for name, schema in self._document["components"]["schemas"].items():
            yield from self._form(name, schema)

    def _operation(self, title: str, operation: Part) -> Iterator[str]:
        yield f"### {title}"
        yield " ".join(
            part for part in (operation["summary"], operation.get("description")) if part
        )
        if "requestBody" in operation:
            body = self._resolved(operation["requestBody"])
            yield " ".join(["Body:", *self._bodies(body), body.get("description", "")]).strip()
        parameters = operation.get("parameters", ())
        if parameters:
            rows = [
                (code(one["name"]), self._type(one["schema"]), one.get("description", ""))
                for one in parameters
            ]
            yield table(("in the query", "value", "meaning"), rows)
        answers = {
            status: self._resolved(answer) for status, answer in operation["responses"].items()
        }
        rows = [
            (code(status), answer["description"], " or ".join(self._bodies(answer)))
            for status, answer in answers.items()
        ]
        yield table(("status", "when", "body"), rows)

    def _form(self, name: str, schema: Part) -> Iterator[str]:
        yield f"### {name}"
        if schema.get("description"):
            yield schema["description"]
        rows = list(self._fields(schema, ""))
        yield table(("field", "value", "meaning"), rows) if rows else f"{self._type(schema)}."

    def _fields(self, schema: Part, prefix: str) -> Iterator[tuple[str, str, str]]:
        for name, field in schema.get("properties", {}).items():
            needed = "" if name in schema.get("required", ()) else ", may be left out"
            path = f"{prefix}{name}"
            yield code(path), self._type(field) + needed, field.get("description", "")
            if "$ref" not in field:
                yield from self._fields(field, f"{path}.")
                yield from self._fields(_items(field), f"{path}[].")
                yield from self._fields(_values(field), f"{path}.*.")

    def _bodies(self, part: Part) -> list[str]:
        return [
            f"{code(media)}, {self._type(content['schema'])}"
            for media, content in part.get("content", {}).items()
        ]

    def _type(self, schema: Part) -> str:
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        words = [self._kind(kind, schema) for kind in kinds]
        limits = [
            f"{said} {schema[key]}"
            for key, said in (("minimum", "at least"), ("maximum", "at most"))
            if key in schema
        ]
        return ", ".join([" or ".join(words), *limits])

    def _kind(self, kind: str, schema: Part) -> str:
        if "enum" in schema:
            return ", ".join(code(str(value)) for value in schema["enum"])
        if kind == "array" and "items" in schema:
            return f"list of {self._type(schema['items'])}"
        if kind == "object" and _values(schema):
            return f"map to {self._type(_values(schema))}"
        return kind

    def _resolved(self, part: Part) -> Part:
        if "$ref" not in part:
            return part
        found: Any = self._document
        for step in part["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return self._resolved(found)


def _items(schema: Part) -> Part:
    items: Part = schema.get("items", {})
    return {} if "$ref" in items else items


def _values(schema: Part) -> Part:
    """Return the schema of an object's values; empty where they are not described."""
    values = schema.get("additionalProperties")
    return values if isinstance(values, dict) and "$ref" not in values else {}
