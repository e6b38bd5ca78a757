"""Tools that fetch a model by its name on a hub: Hugging Face, ModelScope, Ollama, and git.

Options are as in huggingface_hub's CLI guide, ModelScope's and Ollama's references, and git-clone.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence

import msgspec

from extender.workload.commands import Call, Word
from extender.workload.downloads.arguments import Arguments
from extender.workload.downloads.fill import Fill
from extender.workload.downloads.paths import joined
from extender.workload.names import repository_directory

_HUGGING_FACE_VALUED = frozenset(
    "--local-dir --cache-dir --revision --include --exclude --repo-type --token --max-workers "
    "--local-dir-use-symlinks".split()
)
_HUGGING_FACE_HARMLESS = frozenset("auth login whoami env version cache scan-cache logout".split())
_GIT_VALUED = frozenset(
    "-C -b --branch --depth -c --config -o --origin -j --jobs --reference --shallow-since "
    "--filter -I --include -X --exclude --git-dir --work-tree".split()
)


def hugging_face(arguments: Arguments) -> list[Fill] | None:
    """Read ``hf download REPOSITORY [FILE...]``."""
    words = arguments.positional(_HUGGING_FACE_VALUED)
    if not words or words[0].text != "download":
        return [] if words and words[0].text in _HUGGING_FACE_HARMLESS else None
    if arguments.only_tries():
        return []
    repository = words[1].text if len(words) > 1 else None
    revision = arguments.option("--revision")
    if arguments.given("--local-dir"):
        directory = arguments.option_word("--local-dir")
        where = directory.text if directory is not None else None
        fill = arguments.fill(repository, where, revision, within=directory)
        return [msgspec.structs.replace(fill, files=_files(words[2:]))]
    given = arguments.option_word("--cache-dir")
    if given is not None and given.text is None:
        return [arguments.fill(repository, None, revision, within=given)]
    base = hub_cache(arguments.call, given.shown if given is not None else "", arguments.home)
    where = cached(base, repository)
    return [arguments.fill(repository, where, revision, within=base)]


def _files(words: Sequence[Word]) -> tuple[str, ...]:
    """Return the files of a repository that a call names; none where one cannot be told."""
    names = [word.text for word in words]
    known = [name for name in names if name is not None and not re.search(r"[*?\[]", name)]
    return tuple(known) if len(known) == len(names) else ()


def cached(base: str | None, repository: str | None) -> str | None:
    """Return a repository's directory in the hub's cache; None where either is not known."""
    if repository is None or base is None:
        return None
    return posixpath.join(base, repository_directory(repository))


def hub_cache(call: Call, cache: str, home: str) -> str | None:
    """Return the hub's cache: the one that a call names, else as huggingface_hub chooses it."""
    return cache or _cache(call, home)


def _cache(call: Call, home: str) -> str | None:
    """Return the cache that the environment chooses; None where that cannot be read."""
    for name, below in (
        ("HF_HUB_CACHE", ""),
        ("HUGGINGFACE_HUB_CACHE", ""),
        ("HF_HOME", "hub"),
        ("XDG_CACHE_HOME", "huggingface/hub"),
    ):
        if name in call.variables:
            return joined(call.variables[name], below)
    return f"{home}/.cache/huggingface/hub"


def modelscope(arguments: Arguments) -> list[Fill] | None:
    """Read ``modelscope download MODEL``, or ``--model MODEL``."""
    model = arguments.option("--model")
    words = arguments.positional(("--model", "--local_dir", "--local-dir", "--revision"))
    if model is None and len(words) > 1:
        model = words[1].text
    directory = arguments.option_word("--local-dir")
    where = directory.text if directory is not None else None
    return [arguments.fill(model, where, arguments.option("--revision"), within=directory)]


def ollama(arguments: Arguments) -> list[Fill] | None:
    """Read ``ollama pull NAME``: into the store that ``OLLAMA_MODELS`` names."""
    words = arguments.positional(())
    if not words or words[0].text != "pull":
        return [] if words and words[0].text in {"serve", "list"} else None
    models = arguments.call.variables.get("OLLAMA_MODELS", f"{arguments.home}/.ollama/models")
    return [arguments.fill(word.text, models) for word in words[1:]]


def git(arguments: Arguments) -> list[Fill] | None:
    """Read ``git [lfs] clone URL [DIRECTORY]``; what else git does fetches no model."""
    words = arguments.positional(_GIT_VALUED)
    if words and words[0].text == "lfs":
        words = words[1:]
    texts = [word.text for word in words]
    if texts[:1] != ["clone"]:
        return [] if texts[:1] != [None] and texts else None
    if len(texts) < 2:
        return None
    url = texts[1]
    directory = texts[2] if len(texts) > 2 else _repository_name(url)
    within: Word | str = words[2] if len(words) > 2 else "."
    if arguments.given("-C"):
        base = arguments.option("-C")
        within = base or ""
        directory = joined(base, directory)
    return [arguments.fill(url, directory, arguments.option("-b", "--branch"), within=within)]


def _repository_name(url: str | None) -> str | None:
    return posixpath.basename(url.rstrip("/")).removesuffix(".git") if url else None
