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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import zip_longest

import msgspec

from extender.workload.commands import Call, CommandLine, Word
from extender.workload.pythonic import python_budget, python_fetches


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
    "nvidia-smi pip pip3 apt apt-get apk yum dnf microdnf sha256sum md5sum seq expr let "
    "continue break pause nc ps logger dirname basename readlink realpath mktemp jq".split()
)
_WRAPPERS = frozenset(
    "exec nohup time nice ionice sudo env timeout stdbuf setsid tini dumb-init command "
    "flock".split()
)
_BEFORE = re.compile(r"-.*|\w+=.*|\d+[smhd]?", re.DOTALL)
"""What a wrapper takes for itself: options, assignments, a duration or a descriptor."""
_PYTHON = re.compile(r"(?:python|pypy)[\d.]*")
_ENTRYPOINTS = {
    "aws-cli": "aws",
    "curl": "curl",
    "git": "git",
    "mc": "mc",
    "ollama": "ollama",
    "rclone": "rclone",
    "s5cmd": "s5cmd",
}
"""The program that an image runs where the pod gives it arguments alone."""

MOST_FILLS = 500
"""What comes after so many is not read: moves and copies are followed through all before them."""

_PAUSE_IMAGE = re.compile(r"(?:^|/)pause(?::|@|$)")


def downloads(command: CommandLine, *, image: str = "", home: str = "/root") -> Fills:
    """Return what a container's calls fetch, in the order of the script."""
    reader = _Reader(home, command.mounts)
    for call in command.calls:
        program = _ENTRYPOINTS.get(_image_name(image)) if call.entrypoint else None
        if program is not None and (not call.words or call.words[0].text != program):
            words = (Word(program, call.words[0].read_from if call.words else ()), *call.words)
            reader.read(msgspec.structs.replace(call, words=words))
        elif call.entrypoint and (not call.words or _is_only_options(call)):
            reader.opaque = reader.opaque or not _PAUSE_IMAGE.search(image)
        else:
            reader.read(call)
    return Fills(tuple(reader.fills), reader.opaque or not command.complete)


def _image_name(image: str) -> str:
    """Return an image's last segment, without tag and digest."""
    return image.rpartition("/")[2].partition("@")[0].partition(":")[0]


def _is_only_options(call: Call) -> bool:
    return all((word.text or "-").startswith("-") for word in call.words)


class _Reader:
    def __init__(self, home: str, directories: Collection[str]) -> None:
        self._home = home
        self._directories = {posixpath.normpath(path) for path in directories}
        self._python_budget = python_budget()
        self.fills: list[Fill] = []
        self.opaque = False

    def read(self, call: Call) -> None:
        if len(self.fills) >= MOST_FILLS:
            self.opaque = True
            return
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
        elif name == "mkdir":
            made = Arguments(call, self._home).positional(("-m", "--mode"))
            self._directories.update(_at(call, word.text) or "" for word in made if word.text)
        elif name == "find":
            self.opaque = self.opaque or any((w.text or "").startswith("-exec") for w in call.words)
        elif name not in _HARMLESS or (call.output != "" and name in {"cat", "tee"}):
            self.opaque = True

    def _tool(self, name: str, call: Call) -> None:
        fills = _TOOLS[name](Arguments(call, self._home, self._directories))
        if fills is None:
            self.opaque = True
        elif name == "mv":
            self._move(fills)
        elif name == "ln":
            self._link(fills, call)
        elif name in {"cp", "rsync"}:
            self.fills.extend([self._traced(fill) for fill in fills])
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

    def _link(self, links: Sequence[Fill], call: Call) -> None:
        """Give what was fetched a second name; other links are none of our business.

        A relative target is meant from where the link lies.
        """
        words = Arguments(call, self._home).positional(())
        for link, word in zip(links, words, strict=False):
            if link.destination is None or word.text is None:
                self.opaque = True
                continue
            source = posixpath.join(posixpath.dirname(link.destination), word.text)
            copy = self._traced(msgspec.structs.replace(link, source=posixpath.normpath(source)))
            if not (copy.source or "").startswith("/"):
                self.fills.append(copy)

    def _traced(self, copy: Fill) -> Fill:
        """Say of a copy of what was fetched before where that came from."""
        for fill in self.fills:
            where = fill.destination
            if copy.source is not None and where is not None and _is_below(copy.source, where):
                return msgspec.structs.replace(copy, source=fill.source, revision=fill.revision)
        return copy

    def _python(self, call: Call) -> None:
        program = _program(call)
        if program is None:
            self.opaque = True
            return
        read = python_fetches(program, call.variables, budget=self._python_budget)
        self.opaque = self.opaque or read.opaque
        place = call.words[0].read_from
        for fetch in read.fetches:
            seen = msgspec.structs.replace(call, variables=fetch.variables)
            if fetch.directory:
                where = fetch.directory
            elif fetch.directory is None or fetch.cache is None:
                where = None
            else:
                where = _cached(seen, fetch.repository, fetch.cache, self._home)
            destination = _at(call, where) if where is not None else None
            self.fills.append(Fill(fetch.repository, destination, fetch.revision, place))


class Arguments:
    """A tool's arguments: its positional words and its options."""

    def __init__(self, call: Call, home: str, directories: Collection[str] = ()) -> None:
        self.call = call
        self.home = home
        self.words = call.words[1:]
        self._directories = directories

    def exists(self, path: str) -> bool:
        """Tell whether a path is a directory before the call: a mount, or made by the script."""
        return _at(self.call, path) in self._directories

    def option(self, *names: str) -> str | None:
        """Return an option's value, None without one."""
        word = Call(self.words).option(*names)
        return word.text if word is not None else None

    def given(self, *names: str) -> bool:
        """Tell whether an option is there."""
        return Call(self.words).has(*names)

    def positional(self, valued: Collection[str], *, exactly: int | None = None) -> list[Word]:
        """Return the words that are no options; ``valued`` are the options that take a value.

        Where there are more than ``exactly`` so many, those that follow an option that is not
        known are taken for its value.
        """
        found: list[Word] = []
        sure: list[Word] = []
        before = ""
        for word in self.words:
            text = word.text
            if before in valued:
                before = ""
            elif text is not None and text.startswith("-") and len(text) > 1:
                before = text
            else:
                found.append(word)
                if not before or "=" in before:
                    sure.append(word)
                before = ""
        return sure if exactly is not None and len(found) > exactly == len(sure) else found

    def fill(
        self, source: str | None, destination: str | None, revision: str | None = None
    ) -> Fill:
        """Return what is fetched; a relative destination is put below the working directory."""
        where = _at(self.call, destination) if destination is not None else None
        return Fill(source, where, revision, self.call.words[0].read_from)


Tool = Callable[[Arguments], "list[Fill] | None"]
"""A tool's reader: what it fetches, or None where that cannot be read."""

Place = Callable[[Arguments, "str | None", str, int], "str | None"]
"""Where one of so many sources lands, given the destination that is written."""

_NOWHERE = frozenset({"-", "/dev/null", "/dev/stdout", "/dev/stderr"})
_FILE = re.compile(
    r"\.(?:gguf|ggml|safetensors|bin|pt|pth|onnx|model|json|txt|md|tar|tgz|gz|zst|lz4|zip|sh|conf|"
    r"conflist|ya?ml|so|key|pem|crt|log)$"
)
_BY_NAME = "-O"


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


def _copier(
    verbs: Mapping[str, Place],
    valued: str,
    *,
    group: str = "",
    several: bool = True,
    aliases: bool = False,
) -> Tool:
    """Read ``TOOL [GROUP] VERB SOURCE... DESTINATION``.

    ``verbs`` says for each how the destination is meant; ``several`` is false where there is one
    source. With ``aliases`` a source's first segment is a configured name, not a directory.
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
        if not words or (not several and len(words) > 2):
            return None
        return _copied(arguments, words[:-1], words[-1].text, verbs[verb], aliases=aliases)

    return read


def _coreutils(arguments: Arguments) -> list[Fill] | None:
    """Read ``cp``, ``mv`` and ``ln``: ``SOURCE... DESTINATION``, or ``-t DIRECTORY SOURCE...``."""
    options, words = _parsed(arguments.words, "tS", frozenset({"--target-directory", "--suffix"}))
    given = dict(options)
    place = _exactly if {"-T", "--no-target-directory"} & given.keys() else _like_cp
    directory = given.get("-t", given.get("--target-directory", ""))
    if directory != "":
        return _copied(arguments, words, directory, _into)
    return _copied(arguments, words[:-1], words[-1].text if words else None, place)


def _copied(
    arguments: Arguments,
    sources: Sequence[Word],
    target: str | None,
    place: Place,
    *,
    aliases: bool = False,
) -> list[Fill] | None:
    if not sources:
        return None
    if _is_remote(target) or target in _NOWHERE:
        return []
    return [
        arguments.fill(
            source.text if aliases else _source(arguments.call, source.text),
            place(arguments, source.text, target, len(sources)) if target is not None else None,
        )
        for source in sources
    ]


def _contents(arguments: Arguments, source: str | None, target: str, _: int) -> str | None:
    """Put a directory's contents into the target; a single file takes its name or goes into it."""
    if source is None:
        return target
    return _like_cp(arguments, source, target, 1) if _is_file(source) else target


def _into(_: Arguments, source: str | None, target: str, __: int) -> str | None:
    """Put the source itself below the target."""
    if source is None:
        return None
    if _is_file(source) and _is_file(target):
        return target
    name = _base(source)
    return posixpath.join(target, name) if name else target


def _rsynced(arguments: Arguments, source: str | None, target: str, count: int) -> str | None:
    """Do as ``_into``, but a source with a slash at its end means its contents."""
    return (
        target
        if source is not None and source.endswith("/")
        else _into(arguments, source, target, count)
    )


def _mirrored(arguments: Arguments, source: str | None, target: str, count: int) -> str | None:
    """MinIO's ``cp``: as ``_like_cp``, but a source with a slash at its end means its contents."""
    if source is not None and source.endswith("/"):
        return target
    return _like_cp(arguments, source, target, count)


def _exactly(_: Arguments, __: str | None, target: str, ___: int) -> str | None:
    return target


def _like_cp(arguments: Arguments, source: str | None, target: str, count: int) -> str | None:
    """Go into a directory that is there, or take its name: it exists where a script made it."""
    if target.endswith(("/", "/.")) or count > 1 or arguments.exists(target):
        return _into(arguments, source, target, count)
    return target


def _base(source: str) -> str:
    """Return the name under which a source lands; ``""`` where its contents are meant."""
    path = source.partition("?")[0] if "://" in source else source
    name = posixpath.basename(path.rstrip("/"))
    return "" if path.endswith("/.") or re.search(r"[*?\[]", name) else name


def _is_file(path: str) -> bool:
    return _FILE.search(path.partition("?")[0]) is not None


_LISTING = frozenset(
    "ls lsf lsd lsl size check config configure version alias stat du mb login cat auth sts "
    "--version".split()
)


def _git(arguments: Arguments) -> list[Fill] | None:
    words = arguments.positional(
        "-C -b --branch --depth -c --config -o --origin -j --jobs --reference --shallow-since "
        "--filter -I --include -X --exclude --git-dir --work-tree".split()
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
    if arguments.given("-C") and directory is not None:
        directory = _joined(arguments.option("-C"), directory)
    return [arguments.fill(url, directory, arguments.option("-b", "--branch"))]


def _repository_name(url: str | None) -> str | None:
    return posixpath.basename(url.rstrip("/")).removesuffix(".git") if url else None


def _wget(arguments: Arguments) -> list[Fill] | None:
    options, urls = _parsed(arguments.words, "aABDeHiIlnoOPQRtTUwX", _WGET_VALUED)
    given = dict(options)
    if "--spider" in given:
        return []
    if {"-i", "--input-file"} & given.keys() or not urls:
        return None
    file = given.get("-O", given.get("--output-document", ""))
    where = given.get("-P", given.get("--directory-prefix", ""))
    if {"-r", "--recursive", "-m", "--mirror", "-x", "--content-disposition"} & given.keys():
        return [arguments.fill(url.text, None) for url in urls]
    if file == "-":
        file = arguments.call.output or None if arguments.call.output != "" else "/dev/null"
        return _saved(arguments, [(url, file) for url in urls])
    if file == "":
        return _saved(arguments, [(url, _joined(where, _remote_name(url.text))) for url in urls])
    return _saved(arguments, [(url, file) for url in urls])


def _curl(arguments: Arguments) -> list[Fill] | None:
    options, urls = _parsed(arguments.words, "AbcCdDeEFHKmoPQrtTuUwxXyYz", _CURL_VALUED)
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
            saved.append((url, None if named else _joined(where, _remote_name(url.text))))
        else:
            saved.append((url, standard if file == "-" else _joined(where, file)))
    return _saved(arguments, saved)


def _parsed(
    words: Sequence[Word], short: str, long: frozenset[str]
) -> tuple[list[tuple[str, str | None]], list[Word]]:
    """Split words into options and the rest as getopt does (``-qO FILE``, ``-OFILE``, ``--x=y``).

    ``short`` and ``long`` are the options that take a value; the others have ``""``.
    """
    options: list[tuple[str, str | None]] = []
    rest: list[Word] = []
    left = iter(words)
    for word in left:
        text = word.text
        if text is None or not text.startswith("-") or text == "-":
            rest.append(word)
        elif text.startswith("--"):
            name, equals, value = text.partition("=")
            taken = _next(left) if not equals and name in long else value
            options.append((name, taken))
        else:
            options.extend(_cluster(text, short, left))
    return options, rest


def _cluster(text: str, short: str, left: Iterator[Word]) -> Iterator[tuple[str, str | None]]:
    for index, letter in enumerate(text[1:], start=2):
        if letter in short:
            yield f"-{letter}", text[index:] or _next(left)
            return
        yield f"-{letter}", ""


def _next(words: Iterator[Word]) -> str | None:
    word = next(words, None)
    return word.text if word is not None else None


def _saved(arguments: Arguments, files: Sequence[tuple[Word, str | None]]) -> list[Fill]:
    return [arguments.fill(url.text, file) for url, file in files if file not in _NOWHERE]


def _joined(directory: str | None, name: str | None) -> str | None:
    return posixpath.join(directory, name) if directory is not None and name is not None else None


def _remote_name(url: str | None) -> str | None:
    return posixpath.basename((url or "").partition("?")[0]) or None


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
        {"cp": _contents, "sync": _contents, "mv": _contents},
        "--endpoint-url --region --profile --exclude --include --request-payer --sse --acl "
        "--storage-class --source-region --page-size --cli-read-timeout --cli-connect-timeout "
        "--output --color --ca-bundle --checksum-mode --copy-props",
        group="s3",
        several=False,
    ),
    "s5cmd": _copier(
        {"cp": _contents, "sync": _contents, "mv": _contents},
        "--endpoint-url --numworkers --concurrency -c --exclude --include --profile --log "
        "--credentials-file --retry-count -r --part-size -p --source-region",
        several=False,
    ),
    "gsutil": _copier(
        {"cp": _like_cp, "rsync": _contents, "mv": _like_cp}, "-o -x -i -u -h -L -j -y"
    ),
    "gcloud": _copier(
        {"cp": _like_cp, "rsync": _contents, "mv": _like_cp},
        "--project --account --billing-project --impersonate-service-account --configuration "
        "--verbosity --exclude --format --encryption-key --decryption-keys",
        group="storage",
    ),
    "rclone": _copier(
        {"copy": _contents, "sync": _contents, "move": _contents, "copyto": _exactly},
        "--transfers --checkers --config --include --exclude --bwlimit --log-level --stats "
        "--retries --buffer-size --multi-thread-streams --filter --filter-from --files-from "
        "--max-depth --timeout --contimeout --low-level-retries --tpslimit --user-agent",
        several=False,
    ),
    "azcopy": _copier(
        {"copy": _into, "cp": _into, "sync": _contents},
        "--log-level --include-pattern --exclude-pattern --include-path --exclude-path "
        "--cap-mbps --block-size-mb --overwrite --output-type --from-to",
        several=False,
    ),
    "mc": _copier(
        {"cp": _mirrored, "mirror": _contents},
        "--config-dir -C --limit-download --limit-upload --exclude --older-than --newer-than",
        aliases=True,
    ),
    "rsync": _copier(
        {"": _rsynced}, "-e --rsh --exclude --include --bwlimit --timeout --exclude-from --chmod"
    ),
    "cp": _coreutils,
    "mv": _coreutils,
    "ln": _coreutils,
    "git": _git,
    "wget": _wget,
    "curl": _curl,
    "ollama": _ollama,
}


def _unwrapped(call: Call) -> Call:
    """Take off ``env A=B``, ``timeout 60``, ``flock FILE`` and their like; A is then set."""
    words, variables = call.words, dict(call.variables)
    while words and posixpath.basename(words[0].text or "") in _WRAPPERS:
        locks = posixpath.basename(words[0].text or "") == "flock"
        words = words[1:]
        while words and _BEFORE.fullmatch(words[0].text or ""):
            name, equals, value = (words[0].text or "").partition("=")
            if equals and not name.startswith("-"):
                variables[name] = value
            words = words[1:]
        words = words[1:] if locks else words
    if words is call.words:
        return call
    return msgspec.structs.replace(call, words=words, variables=variables)


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
        if text in {"--version", "-V"}:
            return ""
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
    return text is not None and re.match(r"[^/]+:", text) is not None


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _moved(fill: Fill, source: str, destination: str) -> Fill:
    where = fill.destination
    if where is None:
        return fill
    if where == source:
        return msgspec.structs.replace(fill, destination=destination)
    if where.startswith(source + "/"):
        return msgspec.structs.replace(fill, destination=destination + where[len(source) :])
    return fill
