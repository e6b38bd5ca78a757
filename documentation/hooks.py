"""What MkDocs is told beside its configuration: where links go that lead out of docs/.

Pages are read on the site and in the repository. A link to a file of the repository is written as a
relative path, as the repository needs it; the site has no such file and gets the address.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

_LINK = re.compile(r"\]\((?P<path>(?:\.\./)+[^)#\s]*)(?P<rest>[^)\s]*)\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:  # noqa: ARG001 - MkDocs names them
    """Turn links out of docs/ into addresses of the repository.

    https://www.mkdocs.org/dev-guide/plugins/#on_page_markdown
    """
    folder = posixpath.join("docs", posixpath.dirname(page.file.src_uri))
    return _LINK.sub(lambda found: _led(found, folder, config.extra["repository"]), markdown)


def _led(found: re.Match[str], folder: str, repository: str) -> str:
    target = posixpath.normpath(posixpath.join(folder, found["path"]))
    if target.startswith("docs/") and not target.endswith("openapi.yaml"):
        return found[0]
    return f"]({repository}/{target}{found['rest']})"
