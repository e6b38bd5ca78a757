"""What a container fetches, from the tools that people use: one row a tool.

Reads the calls of a command line (scripts taken apart already) and says for each what is fetched
and into which directory of the container. A program that is neither a known tool nor known to be
harmless makes the reading ``opaque``: it may fetch anything.

Options are as in each tool's own reference: huggingface_hub's CLI guide, the AWS CLI's ``s3``
commands, Google's gsutil and ``gcloud storage``, rclone, git, GNU wget, curl, s5cmd, azcopy, MinIO
``mc``, ModelScope, rsync and coreutils.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence

import msgspec

from extender.workload.commands import Call, CommandLine, Word
from extender.workload.pythonic import python_fetches


class Fill(msgspec.Struct, frozen=True):
    """One thing that a container writes. ``destination`` is a path in it, None where not told.

    ``source`` is a name as pods say it: a hub id, a URI, or an absolute path in the container.
    """

    source: str | None
    destination: str | None
    revision: str | None = None
    read_from: tuple[str, ...] = ()


class Fills(msgspec.Struct, frozen=True):
    """All that a container writes; ``opaque`` where it may write more than can be read."""

    fills: tuple[Fill, ...] = ()
    opaque: bool = False


_HARMLESS = frozenset(
    "[ [[ test true false : sleep tail ls echo printf cat mkdir rmdir touch chmod chown chgrp rm "
    "du df date env id whoami hostname uname which command type find grep egrep sed awk head wc "
    "sort cut tr tee stat sync wait trap set export ulimit umask kill pgrep pidof nproc free "
    "nvidia-smi pip pip3 apt apt-get apk yum dnf microdnf sha256sum md5sum flock seq expr let "
    "continue break pause nc ps logger dirname basename readlink realpath mktemp jq".split()
)
_WRAPPERS = frozenset(
    "exec nohup time nice ionice sudo env timeout stdbuf setsid tini dumb-init command".split()
)
_PYTHON = re.compile(r"(?:python|pypy)[\d.]*")
_PAUSE_IMAGE = re.compile(r"(?:^|/)pause(?::|@|$)")


def downloads(command: CommandLine, *, image: str = "", home: str = "/root") -> Fills:
    """Return what a container's calls fetch, in the order of the script."""
    reader = _Reader(home)
    for call in command.calls:
        if call.entrypoint and (not call.words or _is_only_options(call)):
            reader.opaque = reader.opaque or not _PAUSE_IMAGE.search(image)
        else:
            reader.read(call)
    return Fills(tuple(reader.fills), reader.opaque or not command.complete)


def _is_only_options(call: Call) -> bool:
    return all((word.text or "-").startswith("-") for word in call.words)


class _Reader:
    def __init__(self, home: str) -> None:
        self._home = home
        self.fills: list[Fill] = []
        self.opaque = False

    def read(self, call: Call) -> None:
        call = _unwrapped(call)
        if not call.words:
            return
        program = call.words[0].text
        if program is None:
            self.opaque = True
            return
        name = posixpath.basename(program)
        if _PYTHON.fullmatch(name):
            self._python(call)
        elif name in _TOOLS:
            self._tool(name, call)
        elif name not in _HARMLESS or (call.output != "" and name in {"cat", "tee"}):
            self.opaque = True

    def _tool(self, name: str, call: Call) -> None:
        fills = _TOOLS[name](Arguments(call, self._home))
        if fills is None:
            self.opaque = True
        elif name == "mv":
            self._move(fills)
        else:
            self.fills.extend(fills)

    def _move(self, moves: Sequence[Fill]) -> None:
        """Follow a staging directory to its final name."""
        for move in moves:
            source, destination = move.source, move.destination
            if source is None or destination is None:
                self.opaque = True
                continue
            self.fills = [_moved(fill, source, destination) for fill in self.fills]

    def _python(self, call: Call) -> None:
        program = _program(call)
        if program is None:
            self.opaque = True
            return
        read = python_fetches(program, call.variables)
        self.opaque = self.opaque or read.opaque
        place = call.words[0].read_from
        for fetch in read.fetches:
            if fetch.directory:
                destination = _at(call, fetch.directory)
            elif fetch.directory is None or fetch.cache is None:
                destination = None
            else:
                destination = _cached(call, fetch.repository, fetch.cache, self._home)
            self.fills.append(Fill(fetch.repository, destination, fetch.revision, place))


class Arguments:
    """A tool's arguments: its positional words and its options."""

    def __init__(self, call: Call, home: str) -> None:
        self.call = call
        self.home = home
        self.words = call.words[1:]

    def option(self, *names: str) -> str | None:
        """Return an option's value, None without one."""
        word = Call(self.words).option(*names)
        return word.text if word is not None else None

    def given(self, *names: str) -> bool:
        """Tell whether an option is there."""
        return Call(self.words).has(*names)

    def positional(self, valued: Sequence[str]) -> list[Word]:
        """Return the words that are no options; ``valued`` are the options that take a value."""
        found: list[Word] = []
        skip = False
        for word in self.words:
            text = word.text
            if skip:
                skip = False
            elif text is not None and text.startswith("-") and len(text) > 1:
                skip = text in valued
            else:
                found.append(word)
        return found

    def fill(
        self, source: str | None, destination: str | None, revision: str | None = None
    ) -> Fill:
        """Return what is fetched; a relative destination is put below the working directory."""
        where = _at(self.call, destination) if destination is not None else None
        return Fill(source, where, revision, self.call.words[0].read_from)


Tool = Callable[[Arguments], "list[Fill] | None"]
"""A tool's reader: what it fetches, or None where that cannot be read."""


def _hub(arguments: Arguments) -> list[Fill] | None:
    words = arguments.positional(_HUB_OPTIONS)
    if not words or words[0].text != "download":
        harmless = {"auth", "login", "whoami", "env", "version", "cache", "scan-cache", "logout"}
        return [] if words and words[0].text in harmless else None
    repository = words[1].text if len(words) > 1 else None
    revision = arguments.option("--revision")
    if arguments.given("--local-dir"):
        return [arguments.fill(repository, arguments.option("--local-dir"), revision)]
    given = arguments.given("--cache-dir")
    cache = arguments.option("--cache-dir") if given else ""
    if cache is None:
        return [arguments.fill(repository, None, revision)]
    where = _cached(arguments.call, repository, cache, arguments.home)
    return [arguments.fill(repository, where, revision)]


_HUB_OPTIONS = (
    *("--local-dir", "--cache-dir", "--revision", "--include", "--exclude", "--repo-type"),
    *("--token", "--max-workers", "--local-dir-use-symlinks"),
)


def _modelscope(arguments: Arguments) -> list[Fill] | None:
    model = arguments.option("--model")
    words = arguments.positional(("--model", "--local_dir", "--local-dir", "--revision"))
    if model is None and len(words) > 1:
        model = words[1].text
    return [arguments.fill(model, arguments.option("--local-dir"), arguments.option("--revision"))]


def _copier(verbs: Sequence[str], valued: Sequence[str] = (), *, group: str = "") -> Tool:
    """Read ``TOOL [GROUP] VERB SOURCE... DESTINATION``."""

    def read(arguments: Arguments) -> list[Fill] | None:
        words = arguments.positional(valued)
        if group:
            if not words or words[0].text != group:
                return None
            words = words[1:]
        if verbs:
            if not words or words[0].text is None:
                return None
            if words[0].text not in verbs:
                return [] if words[0].text in _LISTING else None
            words = words[1:]
        if len(words) < 2:
            return None
        *sources, destination = words
        if _is_remote(destination.text):
            return []
        return [
            arguments.fill(_source(arguments.call, source.text), destination.text)
            for source in sources
        ]

    return read


_LISTING = frozenset(
    "ls lsf lsd lsl size check config configure version alias stat du mb login cat auth".split()
)


def _git(arguments: Arguments) -> list[Fill] | None:
    words = arguments.positional(
        ("-C", "-b", "--branch", "--depth", "-c", "--config", "-o", "--origin", "-j", "--jobs")
    )
    texts = [word.text for word in words]
    if texts[:1] == ["lfs"]:
        texts = texts[1:]
    if texts[:1] != ["clone"]:
        return [] if texts[:1] != [None] and texts else None
    if len(texts) < 2:
        return None
    url = texts[1]
    directory = texts[2] if len(texts) > 2 else _repository_name(url)
    return [arguments.fill(url, directory, arguments.option("-b", "--branch"))]


def _repository_name(url: str | None) -> str | None:
    return posixpath.basename(url.rstrip("/")).removesuffix(".git") if url else None


def _wget(arguments: Arguments) -> list[Fill] | None:
    urls = arguments.positional(
        "-O -P --output-document --directory-prefix -t --tries -T --timeout --header -o -a -U "
        "--user-agent -i -e --wait -w".split()
    )
    return _web(arguments, urls, ("-O", "--output-document"), ("-P", "--directory-prefix"))


def _curl(arguments: Arguments) -> list[Fill] | None:
    urls = arguments.positional(
        "-o --output --output-dir -H --header --retry -u --user -X --retry-delay -m --max-time -A "
        "--connect-timeout -d --data -w --request -C --continue-at --cacert -b -e -x".split()
    )
    if not _saves(arguments):
        return []
    return _web(arguments, urls, ("-o", "--output"), ("--output-dir",))


def _saves(arguments: Arguments) -> bool:
    if arguments.call.output != "":
        return True
    return arguments.given("-o", "--output", "--remote-name", "--remote-name-all") or any(
        re.fullmatch(r"-[a-zA-Z]*[Oo]", word.text or "") for word in arguments.words
    )


def _web(
    arguments: Arguments, urls: Sequence[Word], file: Sequence[str], directory: Sequence[str]
) -> list[Fill] | None:
    if not urls:
        return None
    where = arguments.option(*directory) if arguments.given(*directory) else ""
    named = arguments.option(*file) or _bundled(arguments)
    output = arguments.call.output
    fills = []
    for url in urls:
        base = posixpath.basename((url.text or "").partition("?")[0]) or None
        name = named or output or base
        path = posixpath.join(where, name) if where is not None and name is not None else None
        fills.append(arguments.fill(url.text, path))
    return fills


def _bundled(arguments: Arguments) -> str | None:
    """Return the file of bundled short options: ``curl -fsSLo FILE``, ``wget -qO FILE``."""
    for word, following in zip(arguments.words, arguments.words[1:], strict=False):
        if re.fullmatch(r"-[a-zA-Z]+[oO]", word.text or "") and arguments.call.words[0].text:
            letter = "o" if "curl" in arguments.call.words[0].text else "O"
            if (word.text or "").endswith(letter):
                return following.text
    return None


def _ollama(arguments: Arguments) -> list[Fill] | None:
    words = arguments.positional(())
    if not words or words[0].text != "pull":
        return [] if words and words[0].text in {"serve", "list"} else None
    models = arguments.call.variables.get("OLLAMA_MODELS", f"{arguments.home}/.ollama/models")
    return [arguments.fill(word.text, models) for word in words[1:]]


_TOOLS: dict[str, Tool] = {
    "hf": _hub,
    "huggingface-cli": _hub,
    "modelscope": _modelscope,
    "aws": _copier(
        ("cp", "sync", "mv"),
        ("--endpoint-url", "--region", "--profile", "--exclude", "--include", "--request-payer"),
        group="s3",
    ),
    "s5cmd": _copier(
        ("cp", "sync"), ("--endpoint-url", "--numworkers", "--concurrency", "-c", "--exclude")
    ),
    "gsutil": _copier(("cp", "rsync", "mv"), ("-o", "-x", "-i", "-u")),
    "gcloud": _copier(("cp", "rsync", "mv"), ("--project", "--account"), group="storage"),
    "rclone": _copier(
        ("copy", "sync", "copyto", "move"),
        ("--transfers", "--checkers", "--config", "--include", "--exclude", "--bwlimit", "-j"),
    ),
    "azcopy": _copier(("copy", "cp", "sync"), ()),
    "mc": _copier(("cp", "mirror"), ()),
    "rsync": _copier((), ("-e", "--exclude", "--include", "--bwlimit")),
    "cp": _copier((), ("-S", "--suffix")),
    "mv": _copier((), ("-S", "--suffix")),
    "ln": lambda _: [],
    "git": _git,
    "wget": _wget,
    "curl": _curl,
    "ollama": _ollama,
}


def _unwrapped(call: Call) -> Call:
    """Take off ``env A=B``, ``timeout 60``, ``nohup`` and their like."""
    words = call.words
    while words and posixpath.basename(words[0].text or "") in _WRAPPERS:
        rest = words[1:]
        while rest and re.fullmatch(r"-.*|\w+=.*|\d+[smhd]?", rest[0].text or "", re.DOTALL):
            rest = rest[1:]
        words = rest
    return msgspec.structs.replace(call, words=words) if words is not call.words else call


def _program(call: Call) -> str | None:
    """Return the text of ``python -c TEXT`` or of a here-document; None where a file is run."""
    for index, word in enumerate(call.words[1:], start=1):
        text = word.text
        if text is None:
            return None
        if re.fullmatch(r"-[a-zA-Z]*c", text):
            return call.words[index + 1].text if index + 1 < len(call.words) else None
        if text == "-":
            return call.stdin
        if text == "-m":
            return "" if _is_pip(call.words[index + 1 :]) else None
        if not text.startswith("-"):
            return None
    return call.stdin


def _is_pip(words: Sequence[Word]) -> bool:
    return bool(words) and words[0].text in {"pip", "ensurepip", "venv"}


def _cached(call: Call, repository: str | None, cache: str, home: str) -> str | None:
    """Return a repository's directory in the hub's cache, as huggingface_hub chooses it."""
    if repository is None:
        return None
    base: str | None = cache
    if not cache:
        variables = call.variables
        base = f"{home}/.cache/huggingface/hub"
        for name, below in (
            ("HF_HUB_CACHE", ""),
            ("HUGGINGFACE_HUB_CACHE", ""),
            ("HF_HOME", "hub"),
            ("XDG_CACHE_HOME", "huggingface/hub"),
        ):
            if name in variables:
                value = variables[name]
                base = posixpath.join(value, below) if value is not None else None
                break
    directory = "models--" + repository.replace("/", "--")
    return posixpath.join(base, directory) if base is not None else None


def _at(call: Call, path: str) -> str | None:
    if path.startswith("/"):
        return posixpath.normpath(path)
    if call.directory is None or path.startswith("~"):
        return None
    return posixpath.normpath(posixpath.join(call.directory, path))


def _source(call: Call, text: str | None) -> str | None:
    """Return a source as pods say it: a URI as it is, a local path made absolute."""
    if text is None or "://" in text or ":" in text.partition("/")[0]:
        return text
    return _at(call, text.removesuffix("/.").removesuffix("/*"))


def _is_remote(text: str | None) -> bool:
    return text is not None and ("://" in text or re.match(r"[\w-]{2,}:", text) is not None)


def _moved(fill: Fill, source: str, destination: str) -> Fill:
    where = fill.destination
    if where is None:
        return fill
    if where == source:
        return msgspec.structs.replace(fill, destination=destination)
    if where.startswith(source + "/"):
        return msgspec.structs.replace(fill, destination=destination + where[len(source) :])
    return fill
