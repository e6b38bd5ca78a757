"""Tools that fetch a model by its name on a hub: Hugging Face, ModelScope, Ollama, and git.

Options are as in huggingface_hub's CLI guide, ModelScope's and Ollama's references, and git-clone.
"""

from __future__ import annotations

import posixpath

from extender.workload.commands import Call
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
    repository = words[1].text if len(words) > 1 else None
    revision = arguments.option("--revision")
    if arguments.given("--local-dir"):
        return [arguments.fill(repository, arguments.option("--local-dir"), revision)]
    given = arguments.given("--cache-dir")
    cache = arguments.option("--cache-dir") if given else ""
    if cache is None:
        return [arguments.fill(repository, None, revision)]
    where = cached(arguments.call, repository, cache, arguments.home)
    return [arguments.fill(repository, where, revision)]


def cached(call: Call, repository: str | None, cache: str, home: str) -> str | None:
    """Return a repository's directory in the hub's cache, as huggingface_hub chooses it.

    ``cache`` is the cache directory that the call names, ``""`` where it names none.
    """
    base = cache or _cache(call, home)
    if repository is None or base is None:
        return None
    return posixpath.join(base, repository_directory(repository))


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
    return [arguments.fill(model, arguments.option("--local-dir"), arguments.option("--revision"))]


def ollama(arguments: Arguments) -> list[Fill] | None:
    """Read ``ollama pull NAME``: into the store that ``OLLAMA_MODELS`` names."""
    words = arguments.positional(())
    if not words or words[0].text != "pull":
        return [] if words and words[0].text in {"serve", "list"} else None
    models = arguments.call.variables.get("OLLAMA_MODELS", f"{arguments.home}/.ollama/models")
    return [arguments.fill(word.text, models) for word in words[1:]]


def git(arguments: Arguments) -> list[Fill] | None:
    """Read ``git [lfs] clone URL [DIRECTORY]``; what else git does fetches no model."""
    texts = [word.text for word in arguments.positional(_GIT_VALUED)]
    if texts[:1] == ["lfs"]:
        texts = texts[1:]
    if texts[:1] != ["clone"]:
        return [] if texts[:1] != [None] and texts else None
    if len(texts) < 2:
        return None
    url = texts[1]
    directory = texts[2] if len(texts) > 2 else _repository_name(url)
    if arguments.given("-C") and directory is not None:
        directory = joined(arguments.option("-C"), directory)
    return [arguments.fill(url, directory, arguments.option("-b", "--branch"))]


def _repository_name(url: str | None) -> str | None:
    return posixpath.basename(url.rstrip("/")).removesuffix(".git") if url else None
