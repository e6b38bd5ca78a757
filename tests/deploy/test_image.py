"""What goes into the serving image."""

from __future__ import annotations

import re

from extender import __version__

from .manifests import ROOT


def test_the_dockerfile_copies_only_what_dockerignore_lets_through() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    let_through = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, flags=re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert copied == let_through


def test_both_stages_take_the_base_that_is_asked_for_and_the_image_says_what_it_is() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    asked, *stages = re.split(r"^(?=FROM )", dockerfile, flags=re.MULTILINE)
    assert re.findall(r"^ARG .*$", asked, re.MULTILINE) == ["ARG BASE_IMAGE"], "no silent default"
    bases = re.findall(r"^FROM (\S+)", dockerfile, flags=re.MULTILINE)
    assert bases == ["${BASE_IMAGE}"] * 2, "so that a digest pins both"
    labels = dict(re.findall(r'org\.opencontainers\.image\.([a-z.]+)="([^"]+)"', dockerfile))
    said = {"title", "description", "source", "licenses", "version", "revision", "base.name"}
    assert labels.keys() == said
    declared = set(re.findall(r"^ARG (\w+)", stages[-1], re.MULTILINE))
    assert {labels[name] for name in ("version", "revision", "base.name")} == {
        f"${{{name}}}" for name in declared
    }


def test_every_build_that_is_shown_names_its_base_by_digest() -> None:
    """A tag means another image tomorrow: that build cannot be had again."""
    shown = [
        (path.relative_to(ROOT), line)
        for path in [ROOT / "Dockerfile", ROOT / "README.md", *sorted(ROOT.glob("d*/**/*.md"))]
        for line in re.findall(r"^.*\bBASE_IMAGE=.*$", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert {str(path) for path, _ in shown} >= {"docs/tutorial.md", "docs/operations/install.md"}
    for path, line in shown:
        assert re.search(r"BASE_IMAGE=\S*@(sha256:|\$digest)", line), (path, line)


def test_the_image_installs_what_is_locked_and_does_not_run_as_root() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "--require-hashes -r requirements.lock" in dockerfile
    assert re.search(r"^USER 65532:65532$", dockerfile, flags=re.MULTILINE)
    assert dockerfile.rstrip().endswith('ENTRYPOINT ["model-cache-extender"]')
    assert f"ARG VERSION={__version__}\n" in dockerfile
