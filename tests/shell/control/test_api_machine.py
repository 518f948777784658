"""A machine that knows only the OpenAPI document asks a live control everything that it says, and much that it does not."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, negative_data_rejection

from tests.core.control.traces import Trace, complete, report
from tests.shell.control import kit
from tests.shell.control.test_api_document import OWN, TOKENS, operations

ENGINES = ("postgresql",)
"""The stricter one: what its columns take, the other takes too."""


@pytest.mark.peer
async def test_a_machine_that_reads_the_document_finds_nothing_that_differs_from_it(tmp_path: Path) -> None:
    """schemathesis: generated good and bad requests to each operation of a live control, every answer held to the document."""
    config = tmp_path / "control.yaml"
    values = {"listen": "127.0.0.1:0", "database": kit.ENGINE.database(tmp_path), "tokens": TOKENS, "evaluator": OWN}
    config.write_text(json.dumps(values))  # JSON is YAML
    async with kit.process(config) as running:
        await _seed(running.client)
        tried = await asyncio.to_thread(_walk, running.client.url)
        assert tried == {f"{method} {path}" for method, path, _ in operations()} - SKIPPED
        assert await running.end(signal.SIGTERM) == 0


async def _seed(client: kit.Client) -> None:
    trace = complete("1", "SCL_abc", token=None)
    trace.message(0, "A", "in", "INVITE sip:a@b SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\n")
    facts = [*trace.facts, *Trace("2", "SCL_live", token=None).answered().facts]
    batch = {"version": 1, "sidecar": "edge-1", "facts": facts}
    await client.post("/v1/ingest/facts", batch, headers={"Authorization": "Bearer tok-sidecar-0123456789"})
    await client.report(report("r1", trace), headers={"Authorization": "Bearer tok-sync-0123456789"})


EXAMPLES = 5
SKIPPED = {"GET /v1/events", "GET /openapi.json", "GET /v1/fleet", "POST /v1/ingest/recordings/{id}", "POST /v1/ingest/captures/{id}"}
"""Streams without an end, which test_api_events and test_fleet are about; the document itself, which the machine leaves out; and audio and
packets, of which a document can tell no more than the media type: tests of both send what is none.
"""
_BOUNDED = settings(
    max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)


def _walk(url: str) -> set[str]:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    tried: set[str] = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        name = f"{operation.method.upper()} {operation.path}"
        if name in SKIPPED:
            continue
        scopes = [scope for choice in operation.definition.raw["security"] for scope in choice["bearer"]]
        headers = {"Authorization": f"Bearer tok-{scopes[0]}-0123456789"} if scopes else {}
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            _ask(operation.as_strategy(generation_mode=mode), headers, good=mode is GenerationMode.POSITIVE)
        tried.add(name)
    return tried


def _ask(cases: SearchStrategy[schemathesis.Case], headers: dict[str, str], *, good: bool) -> None:
    @_BOUNDED
    @given(case=cases)
    def ask(case: schemathesis.Case) -> None:
        if good and case.query:
            case.query.pop("cursor", None)  # no schema says what a cursor is: only the answer before gives one
        if good and case.path.endswith("/current-call"):
            case.query = {**(case.query or {}), "to": "sip:agent@edge.example"}  # at least one is needed, which a schema cannot say either
        if good and case.method == "PUT":  # which keys of a route go together, and that each has its own name, no schema can say either
            case.headers.pop("If-Match", None)
            case.body = {**case.body, "routes": [{"name": "agent", "target": "sip:agent@edge.example"}], "policies": {}}
        if good and case.path == "/v1/verify":
            case.body = {name: value for name, value in case.body.items() if name not in ("username", "password")}
        # Guessing tokens here would meet the limit on failed attempts; test_api_document walks over all scopes.
        # An evaluator's client may add parameters of its own, which are let through.
        lenient = [negative_data_rejection] if case.path.startswith("/api/") else []
        case.call_and_validate(headers=headers, excluded_checks=[ignored_auth, *lenient])

    try:
        ask()
    except Unsatisfiable:  # an operation that takes nothing can be asked nothing wrong
        if good:
            raise
