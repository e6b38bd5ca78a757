"""Lists of models on a command line: ``name=path``, JSON objects, comma-separated names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from extender.workload.commands import Word

_LONGEST_JSON = 64 * 1024


def json_name(word: Word | None, key: str) -> Word | None:
    """Return one text of a JSON object; None where it has none or is no JSON."""
    if word is None:
        return None
    if word.text is None:
        return word
    value = _object(word.text).get(key)
    return Word(value, word.read_from) if isinstance(value, str) and value else None


def named_models(words: Iterable[Word], key: str) -> Iterator[Word]:
    """Yield the models of ``name=path`` and ``{"name": ..., key: path}`` words."""
    for word in words:
        text = word.text
        if text is None:
            yield word
        elif text.startswith("{"):
            found = json_name(word, key)
            if found is not None:
                yield found
        elif text:
            _, equals, path = text.partition("=")
            yield Word(path if equals else text, word.read_from)


def comma_separated(word: Word | None) -> list[Word]:
    """Return the parts of ``a,b``; an unreadable word stays one."""
    if word is None:
        return []
    if word.text is None:
        return [word]
    return [Word(part.strip(), word.read_from) for part in word.text.split(",") if part.strip()]


def _object(text: str) -> dict[str, Any]:
    if len(text) > _LONGEST_JSON:
        return {}
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return {}
    return value if isinstance(value, dict) else {}
