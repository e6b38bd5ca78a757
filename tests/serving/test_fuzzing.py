"""schemathesis reads docs/openapi.yaml and asks the real process what that allows, and what not.

``make fuzz`` asks for long (FUZZ_EXAMPLES for each operation and kind, FUZZ_SEED).
"""

from __future__ import annotations

import os
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.seeds import seed_of
from tests.serving.openapi import FILE, OPERATIONS
from tests.serving.running import Running

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES") or 20)
SEED = seed_of("FUZZ_SEED")
SCHEMA = schemathesis.openapi.from_path(FILE)
ASKED = [
    (path, method, mode)
    for path, method in sorted(OPERATIONS)
    for mode in GenerationMode
    if mode.is_positive or "requestBody" in OPERATIONS[path, method]  # else nothing can be wrong
]
AS_DOCUMENTED = [content_type_conformance, response_schema_conformance, status_code_conformance]


@pytest.mark.timeout(60 + 2 * EXAMPLES)
@pytest.mark.parametrize(
    ("path", "method", "mode"), ASKED, ids=lambda value: getattr(value, "value", value)
)
def test_whatever_is_sent_the_answer_is_documented_and_no_fault(
    server: Running, path: str, method: str, mode: GenerationMode
) -> None:
    """``positive`` keeps to the document, ``negative`` breaks it somewhere."""
    operation = SCHEMA[path][method]
    url = "http://{}:{}".format(*server.address)

    @hypothesis.seed(SEED)
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        told = f"seed {SEED}: {case.as_curl_command()}"
        answer = case.call_and_validate(base_url=url, session=session, checks=AS_DOCUMENTED)
        assert answer.status_code < 500 or path == "/readyz", told
        assert "Traceback" not in answer.text, told

    with requests.Session() as session:
        session.trust_env = False
        ask()
    assert "Traceback" not in server.log(), f"seed {SEED}"
    assert server.answers_well()
