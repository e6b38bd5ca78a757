"""Look for known vulnerabilities in what the image holds: ``python -m release.audit``.

The advisories are on the network. Where they cannot be had, that is said and is no failure: a build
must not depend on somebody else's server. Exit code 1 means that a vulnerability is known.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from release.licences import LOCK

LIMIT_SECONDS = 120
ANSWER_SECONDS = 10


def report() -> Any:
    """Return the report of pip-audit as JSON. Raises OSError with the reason why there is none."""
    command = [sys.executable, "-m", "pip_audit", f"--requirement={LOCK}", "--require-hashes"]
    command += ["--disable-pip", f"--timeout={ANSWER_SECONDS}", "--format=json"]
    command += ["--progress-spinner=off"]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=LIMIT_SECONDS
        )
        return json.loads(done.stdout)
    except subprocess.TimeoutExpired as error:
        raise OSError(f"no answer within {LIMIT_SECONDS} s") from error
    except json.JSONDecodeError as error:
        last = done.stderr.strip().splitlines() or ["pip-audit said nothing"]
        raise OSError(last[-1][:200]) from error


def verdict(document: Any) -> tuple[int, list[str]]:
    """Return the exit code and what to say of a report."""
    packages = document["dependencies"]
    found = [(package, hole) for package in packages for hole in package.get("vulns", ())]
    lines = [
        f"{package['name']} {package['version']}: {hole['id']}, mended in "
        f"{', '.join(hole['fix_versions']) or 'no version yet'}"
        for package, hole in found
    ]
    skipped = [package for package in packages if "skip_reason" in package]
    if skipped:
        lines.append(
            f"NOT AUDITED: {len(skipped)} of {len(packages)} packages, "
            f"{skipped[0]['skip_reason']}; audit them where the advisories can be reached"
        )
    elif not found:
        lines.append(f"no vulnerability is known in {len(packages)} packages")
    return (1 if found else 0), lines


def main() -> int:
    """Audit what is locked."""
    try:
        code, lines = verdict(report())
    except OSError as error:
        code, lines = 0, [f"NOT AUDITED: the advisories cannot be had here: {error}"]
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
