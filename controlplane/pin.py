"""Pin one Kubernetes release: ``python -m controlplane.pin 1.37.2`` writes modules/v1.37.

The release of ``make e2e`` (the minor that build.py builds by default) is modules/kubelet as well,
apart, so that nobody builds a kubelet who needs none.

``k8s.io/kubernetes`` replaces its staging modules by folders that a consumer does not have, so each
of them is replaced by its published release here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from controlplane.build import DEFAULT_VERSION, MODULES

COMMANDS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")


def main(arguments: list[str]) -> int:
    """Run the command line."""
    if len(arguments) != 1 or arguments[0].count(".") != 2:
        print("usage: python -m controlplane.pin MAJOR.MINOR.PATCH", file=sys.stderr)
        return 2
    release = arguments[0].removeprefix("v")
    minor = release.rpartition(".")[0]
    modules: dict[str, Sequence[str]] = {f"v{minor}": COMMANDS}
    if minor == DEFAULT_VERSION:
        modules["kubelet"] = ("kubelet",)
    return max(write(name, release, commands) for name, commands in modules.items())


def write(name: str, release: str, commands: Sequence[str]) -> int:
    """Write a module folder that pins some commands of a release."""
    folder = MODULES / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "go.mod").write_text(go_mod(name, release, upstream(release)), encoding="utf-8")
    (folder / "tools.go").write_text(tools_go(commands), encoding="utf-8")
    return subprocess.run(["go", "mod", "tidy"], cwd=folder, check=False).returncode


def upstream(release: str) -> dict[str, Any]:
    """Return the go.mod of a Kubernetes release, as ``go mod edit`` reads it."""
    download = ["go", "mod", "download", "-json", f"k8s.io/kubernetes@v{release}"]
    path = json.loads(output(download))["GoMod"]
    read: dict[str, Any] = json.loads(output(["go", "mod", "edit", "-json", path]))
    return read


def output(command: list[str]) -> str:
    """Run a command outside any module and return what it prints."""
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {' '.join(command)} failed: {done.stdout}{done.stderr}")
    return done.stdout


def go_mod(name: str, release: str, original: dict[str, Any]) -> str:
    """Write a go.mod that requires the release and replaces what it replaces by folders."""
    staging = "v0." + release.partition(".")[2]
    replaced = [
        entry["Old"]["Path"]
        for entry in original["Replace"]
        if entry["New"]["Path"].startswith("./staging/")
    ]
    lines = [f"module controlplane/{name}", "", f"go {original['Go']}", ""]
    lines += [f"require k8s.io/kubernetes v{release}", "", "replace ("]
    lines += [f"\t{path} => {path} {staging}" for path in sorted(replaced)]
    return "\n".join([*lines, ")", ""])


def tools_go(commands: Sequence[str]) -> str:
    """Write the file that makes ``go mod tidy`` keep what the commands need."""
    imports = "\n".join(f'\t_ "k8s.io/kubernetes/cmd/{command}"' for command in commands)
    return f"//go:build tools\n\npackage tools\n\nimport (\n{imports}\n)\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
