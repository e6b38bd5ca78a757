"""The ladder of checks: nothing unfinished, everything there, headers, content.

Each level includes those below and costs more: a walk, a look at names and sizes, the first
kilobytes of each weight file, every byte.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from extender.loader.proof import manifest as manifests
from extender.loader.proof import weights as weighing
from extender.loader.proof.manifest import Expected, Manifest
from extender.loader.proof.marker import Marker, MarkerError, read_marker
from extender.loader.proof.reading import Reader
from extender.loader.proof.scan import Found, Scan, scan
from extender.loader.proof.unfinished import hashes_of, is_left_over
from extender.loader.proof.verdict import Level, Problem, ProblemKind, ProvenFile, Verdict
from extender.loader.sources import Listing


def verify(
    directory: Path,
    *,
    level: Level = Level.HEADERS,
    expected: Listing | Marker | None = None,
    reader: Reader | None = None,
) -> Verdict:
    """Prove a model's directory up to ``level``.

    Without ``expected``, its files are compared with the marker in it, else with what the hub's
    tools left. Files that were touched since the marker was written are read whole at every level
    above the first: only their content can tell. Raises OSError where the directory itself cannot
    be read, and ReadingStoppedError where the reader is stopped.
    """
    found = scan(directory)
    found.problems += [
        Problem(path, ProblemKind.UNFINISHED, f"blob {blob} has not ended")
        for path, blob in manifests.unfinished_blobs(directory, list(found.files))
    ]
    known = _known(directory, expected, found)
    if known.complete:
        _restrict(found, known)
    else:
        _forget_leftovers(found, known)
    reader = reader or Reader()
    weights = weighing.Weights()
    hashes: dict[str, str] = {}
    if level.covers(Level.SIZES):
        _compare(found, known)
        weights = weighing.shape(directory, found, allowed=known.may_lack, vouched=known.vouched)
    if level.covers(Level.HEADERS):
        weighing.headers(
            directory,
            found,
            weights,
            as_told=lambda path: _is_as_told(directory, path, known, reader),
        )
    if level.covers(Level.SIZES):
        hashes = _contents(directory, found, known, level, reader)
    return Verdict(
        ok=not found.problems,
        level=level,
        problems=tuple(found.problems),
        unchecked=tuple(found.unchecked),
        files=len(found.files),
        bytes=sum(file.size for file in found.files.values()),
        kind=weights.kind,
        layout="hub-cache" if manifests.is_snapshot(directory) else "plain",
        tensors=weights.tensors,
        proven=tuple(
            _proven(path, file, hashes.get(path) or _still(known.files.get(path), file))
            for path, file in found.files.items()
        ),
    )


def prove_file(directory: Path, path: str, expected: Expected, reader: Reader) -> Problem | None:
    """Read one file whole and compare it; None where it is what it should be."""
    found = scan_one(directory, path)
    if found is None:
        return Problem(path, ProblemKind.MISSING, "is not there")
    problem = _wrong_size(path, found, expected)
    if problem is None:
        problem, _ = _read_whole(directory, path, expected, reader)
    return problem


def scan_one(directory: Path, path: str) -> Found | None:
    """Look at one file; None where it is not there."""
    try:
        seen = (directory / path).stat()
    except OSError:
        return None
    return Found(seen.st_size, seen.st_mtime_ns, seen.st_ino)


def _is_as_told(directory: Path, path: str, known: Manifest, reader: Reader) -> bool:
    expected = known.files.get(path, Expected())
    told = bool(expected.sha256 or expected.git_oid)
    return told and prove_file(directory, path, expected, reader) is None


def _known(directory: Path, expected: Listing | Marker | None, found: Scan) -> Manifest:
    if isinstance(expected, Listing):
        return manifests.of_listing(expected)
    try:
        marker = read_marker(directory) if expected is None else expected
    except MarkerError as error:
        found.problems.append(Problem("", ProblemKind.MARKER, str(error)))
        marker = None
    if marker is None:
        return manifests.left_by_hub_tools(directory, list(found.files))
    found.problems += [
        Problem(path, ProblemKind.CONTENT, "was found damaged and is being fetched again")
        for path in marker.damaged
    ]
    return manifests.of_marker(marker)


def _restrict(found: Scan, known: Manifest) -> None:
    """Leave out what does not belong to the model: it cannot make the model less whole."""
    others = [path for path in found.files if path not in known.files]
    if others:
        found.unchecked.append(
            f"files that do not belong to the model ({len(others)}): {others[0]}, ..."
        )
    found.files = {path: file for path, file in found.files.items() if path in known.files}
    found.problems = [
        problem
        for problem in found.problems
        if problem.kind is not ProblemKind.UNFINISHED
        and (not problem.file or problem.file in known.files)
    ]


def _forget_leftovers(found: Scan, known: Manifest) -> None:
    """Leave out what huggingface_hub began, and did again: see ``is_left_over``."""
    done = hashes_of(known.files.values())
    for problem in list(found.problems):
        if problem.kind is ProblemKind.UNFINISHED and is_left_over(problem.file, done):
            found.problems.remove(problem)
            found.unchecked.append(f"{problem.file}: left over, its file is there")


def _compare(found: Scan, known: Manifest) -> None:
    told = {problem.file for problem in found.problems}
    for path, expected in sorted(known.files.items()):
        file = found.files.get(path)
        if file is not None:
            problem = _wrong_size(path, file, expected)
        elif path in told:
            continue
        else:
            problem = Problem(path, ProblemKind.MISSING, "is not there")
        if problem is not None:
            found.problems.append(problem)


def _wrong_size(path: str, file: Found, expected: Expected) -> Problem | None:
    if expected.size is None or file.size == expected.size:
        return None
    return Problem(
        path, ProblemKind.SIZE, f"has {file.size} bytes, and {expected.size} are expected"
    )


def _contents(
    directory: Path, found: Scan, known: Manifest, level: Level, reader: Reader
) -> dict[str, str]:
    """Read what has to be read; return the SHA-256 of each file that was."""
    broken = {problem.file for problem in found.problems}
    nothing = Expected()
    to_read = [
        (path, file, expected)
        for path, file in found.files.items()
        for expected in (known.files.get(path, nothing),)
        if path not in broken and (level is Level.CONTENT or _touched(file, expected))
    ]
    without_hash = sum(not (e.sha256 or e.git_oid) for _, _, e in to_read)
    if without_hash:
        found.unchecked.append(
            f"the content of {without_hash} files: read, but there is no hash to compare it with"
        )

    def read(each: tuple[str, Found, Expected]) -> tuple[Problem | None, str]:
        path, file, expected = each
        problem, sha256 = _read_whole(directory, path, expected, reader)
        if problem is None and scan_one(directory, path) != file:
            problem = Problem(path, ProblemKind.CONTENT, "was changed while it was read")
        return problem, sha256

    with ThreadPoolExecutor(reader.files_at_once) as pool:
        outcomes = list(pool.map(read, to_read))
    found.problems += [problem for problem, _ in outcomes if problem is not None]
    return {path: sha256 for (path, _, _), (_, sha256) in zip(to_read, outcomes, strict=True)}


def _touched(file: Found, expected: Expected) -> bool:
    return bool(expected.inode) and (
        (file.mtime_ns, file.inode) != (expected.mtime_ns, expected.inode)
    )


def _still(expected: Expected | None, file: Found) -> str:
    """Return the hash that is known of a file that nobody has touched since."""
    return expected.sha256 if expected and expected.inode and not _touched(file, expected) else ""


def _read_whole(
    directory: Path, path: str, expected: Expected, reader: Reader
) -> tuple[Problem | None, str]:
    try:
        git = bool(expected.git_oid and not expected.sha256)
        digests = reader.digests(directory / path, git=git)
    except OSError as error:
        return Problem(path, ProblemKind.UNREADABLE, error.strerror or str(error)), ""
    if expected.sha256 and digests.sha256 != expected.sha256:
        message = f"its SHA-256 is {digests.sha256}, and {expected.sha256} is expected"
        return Problem(path, ProblemKind.CONTENT, message), digests.sha256
    if git and digests.git_oid != expected.git_oid:
        message = f"its git id is {digests.git_oid}, and {expected.git_oid} is expected"
        return Problem(path, ProblemKind.CONTENT, message), digests.sha256
    return None, digests.sha256


def _proven(path: str, file: Found, sha256: str) -> ProvenFile:
    return ProvenFile(
        path=path, size=file.size, sha256=sha256, mtime_ns=file.mtime_ns, inode=file.inode
    )
