"""A control plane on loopback with a stand-in evaluator behind it, and the traces that a sidecar would send."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from control.app import serving
from control.config import ControlConfig

TOKEN = "5f0c1e2d3a4b59687766554433221100"


@dataclass
class Evaluator:
    """Receives Create Call as the evaluator does. `script` holds statuses to answer first; then 201, and 200 with is_new=false for a repetition."""

    script: list[int | tuple[int, dict[str, str]]] = field(default_factory=list)
    received: list[tuple[str, bytes]] = field(default_factory=list)
    """Accepted bodies by call_id, repetitions included."""
    attempts: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    traces: list[bytes] = field(default_factory=list)
    upload: dict[str, Any] | None = None
    base_url: str = ""

    def calls(self) -> list[str]:
        return [call_id for call_id, _ in self.received]

    def body(self, call_id: str) -> dict[str, Any]:
        return json.loads(next(body for seen, body in self.received if seen == call_id))

    async def create_call(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.attempts.append(body)
        self.headers.append({"path": request.path_qs, **request.headers})
        if self.script:
            step = self.script.pop(0)
            status, headers = step if isinstance(step, tuple) else (step, {})
            return web.json_response({"detail": "as the test wants it"}, status=status, headers=headers)
        call_id = json.loads(body)["call_id"]
        is_new = call_id not in self.calls()
        self.received.append((call_id, body))
        answer: dict[str, Any] = {"id": len(self.received), "provider_call_id": call_id, "is_new": is_new}
        if self.upload is not None:
            answer["recording_upload"] = self.upload
        return web.json_response(answer, status=201 if is_new else 200)

    async def take_traces(self, request: web.Request) -> web.Response:
        self.traces.append(await request.read())
        self.headers.append({"path": request.path_qs, **request.headers})
        return web.Response(body=b"", content_type="application/x-protobuf")


@asynccontextmanager
async def evaluator(port: int = 0, known: Evaluator | None = None) -> AsyncIterator[Evaluator]:
    stand_in = known or Evaluator()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/api/v1/public/call", stand_in.create_call)
    app.router.add_post("/api/v1/traces", stand_in.take_traces)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    stand_in.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield stand_in
    finally:
        await runner.cleanup()


def settings(folder: Path, base_url: str, **changes: Any) -> ControlConfig:
    values: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "database": f"sqlite+aiosqlite:///{folder}/control.db",
        "evaluator": {"base_url": base_url},
        "enrich_wait_s": 0.3,
        "wire_only": {"enabled": False, "grace_s": 3600},
    }
    return ControlConfig(**(values | changes))


@dataclass
class Client:
    """Talks to a running control as agents, sidecars and people do."""

    url: str
    http: aiohttp.ClientSession

    async def get(self, path: str, status: int = 200, **kwargs: Any) -> Any:
        async with self.http.get(self.url + path, **kwargs) as response:
            text = await response.text()
            assert response.status == status, text
            return json.loads(text) if "json" in response.content_type else text

    async def post(self, path: str, body: bytes | dict[str, Any] | None = None, status: int = 200, **kwargs: Any) -> Any:
        data = io.BytesIO(json.dumps(body).encode() if isinstance(body, dict) else body or b"")
        async with self.http.post(self.url + path, data=data, **kwargs) as response:
            text = await response.text()
            assert response.status == status, text
            return json.loads(text) if "json" in response.content_type else text

    async def report(self, body: bytes | dict[str, Any], status: int = 200, **kwargs: Any) -> Any:
        kwargs.setdefault("headers", {"Authorization": "Bearer tr_api_test"})
        return await self.post("/api/v1/public/call?workspace_id=7&agent_remote_identifier=agent-1", body, status, **kwargs)

    async def facts(self, *facts: dict[str, Any], status: int = 200, version: int = 1) -> Any:
        return await self.post("/v1/ingest/facts", {"version": version, "sidecar": "edge-1", "facts": list(facts)}, status)


@asynccontextmanager
async def control(config: ControlConfig) -> AsyncIterator[Client]:
    async with serving(config) as url, aiohttp.ClientSession() as http:
        yield Client(url, http)


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]], seconds: float = 8.0) -> None:
    """Wait for something that happens by itself. Fails loudly when it does not."""
    async with asyncio.timeout(seconds):
        while True:
            result = condition()
            if await result if isinstance(result, Awaitable) else result:
                return
            await asyncio.sleep(0.02)


class Trace:
    """The facts of one call, numbered as they are made. Without `open` the call was answered, had two turns, and is complete."""

    def __init__(
        self, call: str, sip_call_id: str, *, kind: str = "simulation", token: str | None = TOKEN, started: datetime | None = None, **more: Any
    ) -> None:
        self.call, self.sip_call_id = call, sip_call_id
        self.started = started or datetime.now(UTC) - timedelta(seconds=20)
        self.seq = 0
        first = {
            "sidecar": "edge-1", "route": "agent", "platform": "generic", "call_kind": kind, "direction": "inbound", "sip_call_id": sip_call_id,
            "correlation_id": token, "from": "sip:+15550100@evaluator.example", "to": "sip:agent@edge.example", "source": "127.0.0.1:5080",
        }  # fmt: skip
        self.facts = [self.fact("call_started", 0, **(first | more))]

    def fact(self, kind: str, ms: float, **values: Any) -> dict[str, Any]:
        self.seq += 1
        at = (self.started + timedelta(milliseconds=ms)).isoformat()
        return {"kind": kind, "call": self.call, "seq": self.seq, "at": at, "elapsed_ms": ms, **values}

    def add(self, kind: str, ms: float, **values: Any) -> Trace:
        self.facts.append(self.fact(kind, ms, **values))
        return self

    def message(self, ms: float, leg: str, direction: str, text: str, **values: Any) -> Trace:
        return self.add(
            "sip_message", ms, leg=leg, direction=direction, transport="udp", local="127.0.0.1:5060", remote="127.0.0.1:5080", text=text, **values
        )

    def answered(self, ms: float = 100.0) -> Trace:
        self.add("hop_seen", 1, hop="received", evidence="INVITE of the evaluator")
        self.add("leg_started", 2, call_id=self.sip_call_id, target="sip:agent@127.0.0.1:5070")
        self.add("hop_seen", 2, hop="carried", evidence="Call-ID kept on the B leg")
        return self.add("call_answered", ms)

    def ended(self, ms: float = 12_000.0, status: int = 200, close: bool = True) -> Trace:
        turns = [turn(1, 1000, 2000, 2600, 4000), turn(2, 5000, 6500, 7400, 9000)]
        speech = {"caller_ms": 2500, "agent_ms": 3000, "overlap_ms": 0, "silence_ms": 5000, "talk_ratio": 0.55}
        self.add("call_ended", ms, status=status, ended_by="caller", reason="caller-bye", cause="the caller hung up", timings_ms={"to_answer": 100.0})
        if status == 200:
            self.add("call_measured", ms + 50, turns=turns, barge_ins=[], speech=speech, media={}, greeting_ms=300.0)
        return self.add("call_closed", ms + 60) if close else self


def turn(n: int, caller_start: float, caller_end: float, agent_start: float, agent_end: float) -> dict[str, Any]:
    return {
        "n": n, "kind": "response", "caller_start_ms": caller_start, "caller_end_ms": caller_end, "agent_start_ms": agent_start,
        "agent_end_ms": agent_end, "response_latency_ms": agent_start - caller_end,
    }  # fmt: skip


def complete(call: str, sip_call_id: str, **more: Any) -> Trace:
    return Trace(call, sip_call_id, **more).answered().ended()


def report(call_id: str, trace: Trace | None = None, **more: Any) -> dict[str, Any]:
    """What an agent posts after the call that `trace` tells, without any identity."""
    started = trace.started if trace is not None else datetime.now(UTC) - timedelta(days=3)
    segments = [
        {"role": "agent", "text": "hello", "start_ms": 310, "end_ms": 900, "metadata": {}},
        {"role": "user", "text": "hi", "start_ms": 1010, "end_ms": 2000, "metadata": {}},
        {"role": "agent", "text": "how can I help", "start_ms": 2620, "end_ms": 4000, "metadata": {"e2e_latency": 410}},
        {"role": "user", "text": "a table", "start_ms": 5010, "end_ms": 6500, "metadata": {}},
        {"role": "agent", "text": "sure", "start_ms": 7410, "end_ms": 9000, "metadata": {"e2e_latency": 700.5}},
    ]
    return {
        "call_id": call_id, "call_type": "phone_call", "start_timestamp": int(started.timestamp()), "end_timestamp": int(started.timestamp()) + 12,
        "recording_url": "pending", "transcript_with_tool_calls": segments,
        "general_meta_data_raw": {"ai_models": {"asr_model": "", "llm_model": "", "tts_model": ""}, "usage_token": {}}, **more,
    }  # fmt: skip
