"""The HTTP side of the stand-in evaluator: takes Create Call as the real one does, fails on demand, links reports to its calls."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

from sidecar.clocks import Addr
from sidecar.lab.create_call import problems
from sidecar.lab.storage import Storage

CORRELATION = "x-correlation-id"


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer to give instead of the true one. `status` None cuts the connection without an answer."""

    status: int | None
    retry_after_s: float | None = None


@dataclass(slots=True)
class Behaviour:
    """What can be switched, at any time."""

    strict: bool = True
    """Refuse with 422 what the documented schema forbids; else take any object with a call_id."""
    duplicates: Literal["409", "is_new"] = "409"
    """How a repeated call_id is answered: both are documented."""
    failures: deque[Failure] = field(default_factory=deque)
    """Used up one per request, before anything else is looked at."""
    down: bool = False
    """Cut every connection, as when the service cannot be reached."""


@dataclass(frozen=True, slots=True)
class Report:
    """A Create Call that was accepted."""

    id: int
    body: dict[str, Any]
    workspace_id: int
    agent_remote_identifier: str


class EvaluatorApi:
    """`POST /api/v1/public/call` and `POST /api/v1/traces` on a port of its own, and the storage that takes recordings."""

    def __init__(self, *, api_key: str, workspace_id: int, agent_id: str, behaviour: Behaviour | None = None) -> None:
        self.behaviour = behaviour or Behaviour()
        self.reports: dict[str, Report] = {}
        """Accepted reports by call_id."""
        self.answers: list[int] = []
        """The status of every answer given, 0 for a cut connection."""
        self.dialled: dict[str, str] = {}
        """Calls this evaluator placed: Call-ID to correlation id."""
        self.arrived = asyncio.Event()
        self.storage = Storage()
        self._api_key, self._workspace_id, self._agent_id = api_key, workspace_id, agent_id
        self._runner: web.AppRunner | None = None
        self._address: Addr = ("", 0)

    @property
    def base_url(self) -> str:
        """What an SDK or control is given as base URL."""
        host, port = self._address
        return f"http://{host}:{port}"

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen. Raises OSError when the port is taken."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/storage", self.storage.take)
        app.router.add_post("/api/v1/public/call", self._create_call)
        app.router.add_post("/api/v1/traces", self._traces)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self._address = self._runner.addresses[0][:2]

    async def stop(self) -> None:
        """Stop listening; what was received stays."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def dialled_call(self, call_id: str, correlation_id: str) -> None:
        """Remember a call that was placed, so that its report can be linked."""
        self.dialled[call_id] = correlation_id

    def report_for(self, call_id: str) -> Report | None:
        """The report that links to the call dialled under `call_id`: by sip_call_id, else by the correlation id in sip_headers."""
        correlation = self.dialled.get(call_id)
        for report in self.reports.values():
            if report.body.get("sip_call_id") == call_id:
                return report
        for report in self.reports.values():
            if correlation is not None and correlation_of(report.body) == correlation:
                return report
        return None

    def linked(self, call_id: str) -> bool:
        """Whether the call dialled under `call_id` has a report that this evaluator would evaluate as that simulation."""
        return call_id in self.dialled and self.report_for(call_id) is not None

    async def _create_call(self, request: web.Request) -> web.StreamResponse:
        failed = self._fail(request) or self._refuse(request)
        if failed is not None:
            return failed
        try:
            body = json.loads(await request.read())
        except ValueError as error:
            return self._json(422, {"detail": [{"loc": ["body"], "msg": str(error), "type": "json_invalid"}]})
        found = problems(body) if self.behaviour.strict else []
        if not found and not (isinstance(body, dict) and isinstance(body.get("call_id"), str)):
            found = [{"loc": ["body", "call_id"], "msg": "Field required", "type": "missing"}]
        return self._json(422, {"detail": found}) if found else self._accept(body)

    async def _traces(self, request: web.Request) -> web.StreamResponse:
        failed = self._fail(request) or self._unauthorised(request)
        return failed or self._json(200, {})

    def _fail(self, request: web.Request) -> web.Response | None:
        failure = Failure(None) if self.behaviour.down else self.behaviour.failures.popleft() if self.behaviour.failures else None
        if failure is None:
            return None
        if failure.status is None:
            if request.transport is not None:
                request.transport.abort()
            self.answers.append(0)
            return web.Response(status=503)
        headers = {} if failure.retry_after_s is None else {"Retry-After": f"{failure.retry_after_s:g}"}
        return self._json(failure.status, {"detail": "told to fail"}, headers)

    def _unauthorised(self, request: web.Request) -> web.Response | None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ") or request.headers.get("X-API-Key", "")
        return None if given == self._api_key else self._json(401, {"detail": "Invalid or missing API key"})

    def _refuse(self, request: web.Request) -> web.Response | None:
        """The key first, then workspace and agent, as the real one does."""
        if (unauthorised := self._unauthorised(request)) is not None:
            return unauthorised
        if request.query.get("workspace_id") != str(self._workspace_id):
            return self._json(403, {"detail": "The key does not belong to this workspace"})
        if request.query.get("agent_remote_identifier") != self._agent_id:
            return self._json(404, {"detail": "No such agent in this workspace"})
        return None

    def _accept(self, body: dict[str, Any]) -> web.Response:
        call_id = body["call_id"]
        known = self.reports.get(call_id)
        if known is not None:
            if self.behaviour.duplicates == "409":
                return self._json(409, {"detail": f"Call {call_id} already exists"})
            return self._json(200, {"id": known.id, "provider_call_id": call_id, "is_new": False})
        report = Report(len(self.reports) + 1, body, self._workspace_id, self._agent_id)
        self.reports[call_id] = report
        self.arrived.set()
        answer: dict[str, Any] = {"id": report.id, "provider_call_id": call_id, "is_new": True}
        extension = body.get("recording_file_extension")
        if isinstance(extension, str) and extension:
            answer["recording_upload"] = self.storage.form(f"{self.base_url}/storage", call_id, extension)
        return self._json(201, answer)

    def _json(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> web.Response:
        self.answers.append(status)
        return web.json_response(body, status=status, headers=headers)


def correlation_of(body: Mapping[str, Any]) -> str | None:
    """The correlation id in a report's sip_headers, whatever the case of the name."""
    headers = body.get("sip_headers")
    if not isinstance(headers, dict):
        return None
    return next((value for name, value in headers.items() if name.lower() == CORRELATION and isinstance(value, str)), None)
