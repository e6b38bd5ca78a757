"""Tools that copy sources to a destination: object stores' own, rsync and coreutils."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

import msgspec

from extender.workload.commands import Call, Word
from extender.workload.downloads.arguments import NOWHERE, Arguments, Tool
from extender.workload.downloads.fill import Fill
from extender.workload.downloads.paths import absolute
from extender.workload.downloads.placing import Place, exactly, into, is_file, like_cp

_LISTING = frozenset(
    "ls lsf lsd lsl size check config configure version alias stat du mb login cat auth sts "
    "--version".split()
)
"""Subcommands that copy nothing to a disk."""


def copier(
    verbs: Mapping[str, Place],
    valued: str,
    *,
    group: str = "",
    several: bool = True,
    aliases: bool = False,
    dry: Collection[str] = (),
) -> Tool:
    """Return a reader of ``TOOL [GROUP] VERB SOURCE... DESTINATION``.

    ``verbs`` says for each how the destination is meant, and ``valued`` which options take a value;
    ``several`` is false where there is one source. With ``aliases`` a source's first segment is a
    configured name, not a directory. ``dry`` are the verbs that ``-n`` keeps from doing anything,
    beside ``--dry-run``, which all of them know.
    """
    options = frozenset(valued.split())
    heads: list[Collection[str]] = [
        *([{group}] if group else []),
        *([] if "" in verbs else [verbs]),
    ]

    def read(arguments: Arguments) -> list[Fill] | None:
        words = arguments.positional(options, exactly=None if several else len(heads) + 2)
        verb = ""
        for allowed in heads:
            if not words:
                return []  # it prints its version, or its help
            verb, words = words[0].text or "", words[1:]
            if verb not in allowed:
                return [] if verb in _LISTING else None
        if arguments.only_tries() or (verb in dry and _tries(arguments)):
            return []
        if not words or (not several and len(words) > 2):
            return None
        return _copied(arguments, words[:-1], words[-1], verbs[verb], aliases=aliases)

    return read


def _tries(arguments: Arguments) -> bool:
    """Tell whether ``-n`` is among the short options, alone or as in ``-avn``."""
    return any(re.fullmatch(r"-[A-Za-z]*n[A-Za-z]*", word.shown) for word in arguments.words)


def coreutils(arguments: Arguments) -> list[Fill] | None:
    """Read ``cp``, ``mv`` and ``ln``: ``SOURCE... DESTINATION``, or ``-t DIRECTORY SOURCE...``."""
    options, words = arguments.parsed("tS", {"--target-directory", "--suffix"})
    given = dict(options)
    place = exactly if {"-T", "--no-target-directory"} & given.keys() else like_cp
    directory = given.get("-t", given.get("--target-directory", ""))
    if directory != "":
        return _copied(arguments, words, Word(directory), into)
    return _copied(arguments, words[:-1], words[-1] if words else Word(None), place)


def _copied(
    arguments: Arguments,
    sources: Sequence[Word],
    where: Word,
    place: Place,
    *,
    aliases: bool = False,
) -> list[Fill] | None:
    target = where.text
    if not sources:
        return None
    if _is_remote(target) or target in NOWHERE:
        return []
    return [
        _fill(arguments, source, where, place, len(sources), aliases=aliases) for source in sources
    ]


def _fill(
    arguments: Arguments, source: Word, where: Word, place: Place, count: int, *, aliases: bool
) -> Fill:
    text, target = source.text, where.text
    fill = arguments.fill(
        text if aliases else _source(arguments.call, text),
        place(arguments, text, target, count) if target is not None else None,
        within=where,
    )
    is_target = target is not None and fill.destination == absolute(arguments.call, target)
    file = is_file(source.shown) or is_file(target or "")
    matched = re.search(r"[*?\[][^/]*$|/\.$", source.shown.partition("?")[0]) is not None
    return msgspec.structs.replace(
        fill, contents=is_target and not file and place is not exactly, matched=matched and not file
    )


def _source(call: Call, text: str | None) -> str | None:
    """Return a source as pods say it: a URI as it is, a local path made absolute."""
    if text is None or "://" in text or ":" in text.partition("/")[0]:
        return text
    return absolute(call, text.removesuffix("/.").removesuffix("/*"))


def _is_remote(text: str | None) -> bool:
    return text is not None and re.match(r"[^/]+:", text) is not None
