"""This program's own ``loader fill SOURCE DEST``."""

from __future__ import annotations

import msgspec

from extender.workload.downloads.arguments import Arguments
from extender.workload.downloads.fill import Fill
from extender.workload.downloads.paths import absolute
from extender.workload.names import parse_name

_VALUED = frozenset(
    "--revision --include --exclude --from --hub-token-file --hub-endpoint --endpoint-url "
    "--connections --bytes-per-second --log-format".split()
)


def loader_fill(arguments: Arguments) -> list[Fill] | None:
    """Read ``model-cache-extender loader fill SOURCE DEST [--from DIRECTORY]...``.

    What ``loader run`` keeps is in its catalog; other commands fetch nothing.
    """
    options, words = arguments.parsed("", _VALUED)
    command = [word.text for word in words[:2]]
    if command == ["loader", "run"]:
        return None
    if command != ["loader", "fill"]:
        return []
    if len(words) != 4:
        return None
    name = parse_name(words[2].text) if words[2].text else None
    fill = arguments.fill(
        name.text if name else None,
        words[3].text,
        dict(options).get("--revision") or (name.revision if name else None),
        within=words[3],
    )
    near = [absolute(arguments.call, value) for option, value in options
            if option == "--from" and value]  # fmt: skip
    return [msgspec.structs.replace(fill, nearer=tuple(path for path in near if path))]
