"""Which program a call runs: wrappers taken off, an image's own entrypoint put in front."""

from __future__ import annotations

import posixpath
import re

import msgspec

from extender.workload.commands import Call, Word

HARMLESS = frozenset(
    "[ [[ test true false : sleep tail ls echo printf cat mkdir rmdir touch chmod chown chgrp rm "
    "du df date env id whoami hostname uname which command type find grep egrep sed awk head wc "
    "sort cut tr tee stat sync wait trap set export ulimit umask kill pgrep pidof nproc free "
    "nvidia-smi pip pip3 apt apt-get apk yum dnf microdnf sha256sum md5sum seq expr let "
    "continue break pause nc ps logger dirname basename readlink realpath mktemp jq".split()
)
"""Programs that put no model anywhere."""
_WRAPPERS = frozenset(
    "exec nohup time nice ionice sudo env timeout stdbuf setsid tini dumb-init command "
    "flock".split()
)
_BEFORE = re.compile(r"-.*|\w+=.*|\d+[smhd]?", re.DOTALL)
"""What a wrapper takes for itself: options, assignments, a duration or a descriptor."""
_ENTRYPOINTS = {
    "aws-cli": "aws",
    "curl": "curl",
    "git": "git",
    "mc": "mc",
    "model-cache-extender": "model-cache-extender",
    "ollama": "ollama",
    "rclone": "rclone",
    "s5cmd": "s5cmd",
}
"""The program that an image runs where the pod gives it arguments alone."""
_PAUSE_IMAGE = re.compile(r"(?:^|/)pause(?::|@|$)")


def started(call: Call, image: str) -> Call | None:
    """Return a call with its program in front; None where only the image knows what that is."""
    if not call.entrypoint:
        return call
    program = _ENTRYPOINTS.get(_image_name(image))
    if program is not None and (not call.words or call.words[0].text != program):
        first = Word(program, call.words[0].read_from if call.words else ())
        return msgspec.structs.replace(call, words=(first, *call.words))
    return None if all((word.text or "-").startswith("-") for word in call.words) else call


def only_pauses(image: str) -> bool:
    """Tell whether an image's own program does nothing but wait."""
    return _PAUSE_IMAGE.search(image) is not None


def _image_name(image: str) -> str:
    """Return an image's last segment, without tag and digest."""
    return image.rpartition("/")[2].partition("@")[0].partition(":")[0]


def unwrapped(call: Call) -> Call:
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
