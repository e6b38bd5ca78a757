"""Where a pod says why it fails, or how far it is: the one command that shows it, to paste.

The container is named: with ``--all-containers`` one that has not started ends the whole command
(``LogsOptions`` in kubernetes/kubectl/pkg/cmd/logs/logs.go), and ``--previous`` is an error where
nothing has run before.
"""

from __future__ import annotations

import shlex

from extender.kube.lives import ContainerLog


def see_why(namespace: str, name: str, log: ContainerLog | None) -> str:
    """Return the command that shows why a pod fails: its events where nothing of it has run."""
    return _command("logs", namespace, name, log)


def follow(namespace: str, name: str, log: ContainerLog | None) -> str:
    """Return the command that shows how far a pod is: its events before anything of it runs."""
    return _command("logs -f", namespace, name, log)


def _command(verb: str, namespace: str, name: str, log: ContainerLog | None) -> str:
    pod = f"-n {shlex.quote(namespace)} {shlex.quote(name)}"
    if log is None:
        return f"kubectl describe pod {pod}"
    container = f" -c {shlex.quote(log.container)}" if log.container else ""
    previous = " --previous" if log.previous else ""
    return f"kubectl {verb} {pod}{container}{previous}"
