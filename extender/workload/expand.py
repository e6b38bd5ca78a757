"""Variables: what a container's environment says, and text with its variables filled in.

Two languages meet here. ``$(NAME)`` in ``command``, ``args``, ``env[].value``, ``subPathExpr`` is
expanded by the kubelet (kubernetes/third_party/forked/golang/expansion): ``$$`` is a dollar, an
undefined reference stays as it is, and env entries see only the ones before them. ``$NAME`` and
``${NAME}`` in scripts are expanded by the shell (see ``scripts``). A value that cannot be read from
the spec (a ConfigMap, a Secret) is ``None``: set, but unknown.

https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from extender.kube.objects import Container, EnvVar, ObjectMeta
from extender.workload.budget import Budget

Environment = Mapping[str, str | None]
"""Name -> value, or None where the variable is set to something the spec does not show."""

# As in the kubelet, a reference ends at the first `)` whatever stands before it: in
# `$(dirname $(X))` the name is `dirname $(X`, which is not defined, so the text stays as it is.
_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")
# Names that an envFrom object may well define. Others (`$(date)`, `$(nproc)`) belong to a script.
_USUAL_NAME = re.compile(r"[A-Z_][A-Z0-9_]*", re.ASCII)


def environment(
    container: Container, metadata: ObjectMeta, budget: Budget | None = None
) -> dict[str, str | None]:
    """Return the container's variables as the kubelet would set them, as far as the spec tells.

    ``fieldRef`` of names, labels and annotations is read from ``metadata``; the rest is None.
    Variables of ``envFrom`` objects are not known even by name and are left out.
    """
    budget = budget or Budget()
    known: dict[str, str | None] = {}
    hidden = bool(container.env_from)
    for variable in container.env:
        known[variable.name] = _value(variable, known, metadata, budget, hidden=hidden)
    return known


def references(text: str) -> list[str]:
    """Return the names that a text refers to by ``$(NAME)``, in their order."""
    return [name for name in _REFERENCE.findall(text, 0, _end(text)) if name]


def expand(
    text: str, variables: Environment, budget: Budget | None = None, *, hidden: bool = False
) -> str | None:
    """Fill in ``$(NAME)``; None where a variable in the text is set but unknown.

    ``hidden`` tells that there are variables beside these (``envFrom``): then what is not defined
    here is unknown. What is filled in is taken out of ``budget``; a text that it does not suffice
    for is unknown, too, as variables may double one another again and again.
    """
    unknown = False
    budget = budget or Budget()

    def substitute(match: re.Match[str]) -> str:
        nonlocal unknown
        name = match.group(1)
        if name is None:
            return "$"
        if name not in variables:
            unknown = unknown or (hidden and _USUAL_NAME.fullmatch(name) is not None)
            return match.group(0)
        value = variables[name]
        if value is None or not budget.spend(characters=len(value)):
            unknown = True
            return ""
        return value

    end = _end(text)
    filled = _REFERENCE.sub(substitute, text[:end]) + text[end:].replace("$$", "$")
    return None if unknown else filled


def _end(text: str) -> int:
    """Return where the last reference can end: no ``$(`` behind it is looked for in vain."""
    return text.rfind(")") + 1


def _value(
    variable: EnvVar,
    known: Environment,
    metadata: ObjectMeta,
    budget: Budget,
    *,
    hidden: bool,
) -> str | None:
    source = variable.value_from
    if source is None:
        return expand(variable.value, known, budget, hidden=hidden)
    if source.field_ref is None:
        return None
    return field_value(source.field_ref.field_path, metadata)


def field_value(path: str, metadata: ObjectMeta) -> str | None:
    """Return what a ``fieldRef`` gives of a pod's metadata; None where that cannot be told."""
    if path == "metadata.name":
        return metadata.name or None
    if path == "metadata.namespace":
        return metadata.namespace or None
    keyed = re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path)
    if keyed is None:
        return None
    table = metadata.labels if keyed[1] == "labels" else metadata.annotations
    return table.get(keyed[2])  # a template's pods may get labels that it does not have
