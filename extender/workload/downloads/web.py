"""Tools that fetch a URL into a file: GNU wget and curl, as their manuals say."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from itertools import zip_longest

from extender.workload.commands import Word
from extender.workload.downloads.arguments import NOWHERE, Arguments
from extender.workload.downloads.fill import Fill
from extender.workload.downloads.paths import joined

_WGET_VALUED = frozenset(
    "--output-document --directory-prefix --tries --timeout --header --output-file --append-output "
    "--user-agent --input-file --wait --user --password --execute --limit-rate --read-timeout "
    "--connect-timeout --dns-timeout --waitretry --quota --ca-certificate --progress --accept "
    "--reject --level --referer --post-data --load-cookies --max-redirect "
    "--retry-on-http-error".split()
)
_CURL_VALUED = frozenset(
    "--output --output-dir --header --retry --retry-delay --retry-max-time --max-time "
    "--connect-timeout --user --request --data --data-binary --data-raw --data-urlencode --form "
    "--user-agent --referer --cookie --cookie-jar --proxy --cacert --capath --cert --key --range "
    "--continue-at --limit-rate --speed-limit --speed-time --write-out --resolve --interface --url "
    "--config --upload-file --max-filesize --max-redirs --netrc-file --parallel-max --dump-header "
    "--oauth2-bearer --aws-sigv4 --ciphers --tls-max --unix-socket --connect-to "
    "--keepalive-time".split()
)
_BY_NAME = "-O"
"""A file that takes its name from the URL."""


def wget(arguments: Arguments) -> list[Fill] | None:
    """Read ``wget [-O FILE | -P DIRECTORY] URL...``."""
    options, urls = arguments.parsed("aABDeHiIlnoOPQRtTUwX", _WGET_VALUED)
    given = dict(options)
    if "--spider" in given:
        return []
    if {"-i", "--input-file"} & given.keys() or not urls:
        return None
    file = given.get("-O", given.get("--output-document", ""))
    where = given.get("-P", given.get("--directory-prefix", ""))
    if {"-r", "--recursive", "-m", "--mirror", "-x", "--content-disposition"} & given.keys():
        return _saved(arguments, [(url, None) for url in urls], where or ".")
    if file == "-":
        file = arguments.call.output or None if arguments.call.output != "" else "/dev/null"
        return _saved(arguments, [(url, file) for url in urls])
    if file == "":
        saved = [(url, joined(where, _remote_name(url.text))) for url in urls]
        return _saved(arguments, saved, None if where is None else where or ".")
    return _saved(arguments, [(url, file) for url in urls])


def curl(arguments: Arguments) -> list[Fill] | None:
    """Read ``curl URL [-o FILE | -O]...``: the first file is for the first URL, and so on."""
    options, urls = arguments.parsed("AbcCdDeEFHKmoPQrtTuUwxXyYz", _CURL_VALUED)
    given = dict(options)
    if {"-K", "--config"} & given.keys():
        return None
    if {"-T", "--upload-file"} & given.keys():
        return []
    urls = [*urls, *(Word(value) for name, value in options if name == "--url")]
    every = [_BY_NAME] * len(urls) if "--remote-name-all" in given else []
    files = [
        _BY_NAME if name in {"-O", "--remote-name"} else value
        for name, value in options
        if name in {"-o", "--output", "-O", "--remote-name"}
    ]
    standard = arguments.call.output if arguments.call.output != "" else "/dev/null"
    where = given.get("--output-dir", "")
    saved: list[tuple[Word, str | None]] = []
    for url, file in zip_longest(urls, (files or every)[: len(urls)], fillvalue="-"):
        assert isinstance(url, Word)
        if file == _BY_NAME:
            named = "-J" in given or "--remote-header-name" in given
            saved.append((url, None if named else joined(where, _remote_name(url.text))))
        else:
            saved.append((url, standard if file == "-" else joined(where, file)))
    by_name = _BY_NAME in (files or every) and where is not None
    return _saved(arguments, saved, (where or ".") if by_name else None)


def _saved(
    arguments: Arguments,
    files: Sequence[tuple[Word, str | None]],
    directory: str | None = None,
) -> list[Fill]:
    """Return a fill for each file; ``directory`` holds those whose name cannot be told."""
    hidden = (w for w in arguments.words if w.text is None and w.head.startswith("/"))
    within = directory or next(hidden, None)
    return [
        arguments.fill(_address(url.text), file, within=within)
        for url, file in files
        if file not in NOWHERE
    ]


def _address(url: str | None) -> str | None:
    """Return a URL with its scheme: without one, both tools ask by HTTP."""
    return url if not url or "://" in url else f"http://{url}"


def _remote_name(url: str | None) -> str | None:
    return posixpath.basename((url or "").partition("?")[0]) or None
