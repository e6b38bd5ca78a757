"""Init containers that fetch models: those of known stacks by their arguments, others by script."""

from __future__ import annotations

import posixpath
import re

import msgspec

from extender.workload.commands import Call, CommandLine
from extender.workload.downloads import Fill, Fills, downloads
from extender.workload.names import without_credentials
from extender.workload.stacks.view import ContainerView

_KSERVE = "storage-initializer"
_MODELCAR = "modelcar"
_AIBRIX = "aibrix_download"
_AIBRIX_DIRECTORY = "/tmp/aibrix/models/"  # noqa: S108 - the tool's own default

_SERVERS: dict[str, set[str]] = {
    "vllm": {"serve"},
    "sglang": {"serve"},
    "ray": {"start", "status", "health-check"},
    "trtllm-serve": set(),
    "tritonserver": set(),
    "llama-server": set(),
    "text-generation-launcher": set(),
    "text-embeddings-router": set(),
}
"""Programs that serve, with the subcommands that do (none listed: all of them)."""
_SERVING_MODULE = re.compile(
    r"vllm\.entrypoints\.(?:openai\.)?api_server|sglang\.launch_server|huggingfaceserver"
)
_SERVING_SCRIPT = "multi-node-serving.sh"
_PYTHON = re.compile(r"python[\d.]*")
_BEFORE = re.compile(r"exec|nohup|[A-Za-z_]\w*=.*", re.DOTALL)


def fills(view: ContainerView) -> Fills:
    """Return what a container writes, its sources without what lets one read them."""
    if view.written is None:
        written = _fills(view)
        view.written = msgspec.structs.replace(
            written,
            fills=tuple(
                fill
                if fill.source is None
                else msgspec.structs.replace(fill, source=without_credentials(fill.source))
                for fill in written.fills
            ),
        )
    return view.written


def _fills(view: ContainerView) -> Fills:
    own = view.arguments()
    if own is not None and _is_storage_initializer(view):
        return _storage_initializer(own)
    if view.container.name.startswith(_MODELCAR):
        return _modelcar(view)
    fetched = [_aibrix(view, call) for call in view.after(_AIBRIX)]
    if fetched and len(fetched) == len(view.command.calls):
        return Fills(tuple(fetched))
    return downloads(
        _without_servers(view.command),
        image=view.container.image,
        home=view.home,
        budget=view.pod.python_budget,
    )


def _without_servers(command: CommandLine) -> CommandLine:
    """Leave out the engines that a script starts: they read models, whatever else it does.

    What an engine fetches into a cache of its own is judged by the cache, not here.
    """
    calls = tuple(call for call in command.calls if call.entrypoint or not starts_server(call))
    return msgspec.structs.replace(command, calls=calls)


def starts_server(call: Call) -> bool:
    """Tell whether a call's program is an engine; a word further on (``cp vllm``) is none."""
    words = [word.text or "" for word in call.words]
    while words and _BEFORE.fullmatch(words[0]):
        words = words[1:]
    program, first, second = (*words, "", "", "")[:3]
    name = posixpath.basename(program)
    if _PYTHON.fullmatch(name):
        return first == "-m" and _SERVING_MODULE.fullmatch(second) is not None
    if name in {"bash", "sh"}:
        return posixpath.basename(first) == _SERVING_SCRIPT
    commands = _SERVERS.get(name)
    return commands is not None and (not commands or first in commands)


def _is_storage_initializer(view: ContainerView) -> bool:
    """Tell KServe's own image, and the others that it runs under that name."""
    return view.image_name.endswith(_KSERVE) or view.container.name == _KSERVE


def _storage_initializer(call: Call) -> Fills:
    """Read KServe's arguments: pairs of a source and the directory that it is copied into.

    https://kserve.github.io/website/docs/model-serving/storage/overview
    """
    words = call.words
    pairs = zip(words[::2], words[1::2], strict=False)
    return Fills(
        tuple(
            Fill(source.text, target.text, read_from=source.read_from) for source, target in pairs
        )
    )


def _modelcar(view: ContainerView) -> Fills:
    """Read KServe's sidecar whose image is the model: it links its own files into the volume.

    ``ln -sf /proc/$$/root/models /mnt/models``, kserve/pkg/utils/storage.go. The init container of
    the same name only has the image pulled.
    """
    links = [
        Fill(
            f"oci://{view.container.image}", call.words[-1].text, read_from=(f"{view.field}.image",)
        )
        for call in view.after("ln")
        if call.words
    ]
    return Fills(tuple(links))


def _aibrix(view: ContainerView, call: Call) -> Fill:
    """Read AIBrix' downloader: ``--model-uri URI --local-dir DIR``, into ``DIR/<URI's last part>``.

    aibrix/python/aibrix/aibrix/downloader (``__main__.py``, ``base.py``, ``utils.py``)
    """
    source = call.option("--model-uri")
    directory = call.option("--local-dir") or view.env("DOWNLOADER_LOCAL_DIR")
    name = call.option("--model-name") or view.env("DOWNLOADER_MODEL_NAME")
    base = directory.text if directory is not None else _AIBRIX_DIRECTORY
    uri = source.text if source is not None else None
    last = name.text if name is not None else posixpath.basename((uri or "").rstrip("/")) or None
    where = posixpath.join(base, last) if base is not None and last is not None else base
    return Fill(uri, where, read_from=source.read_from if source is not None else ())
