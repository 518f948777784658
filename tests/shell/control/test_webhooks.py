"""Events to the URLs of webhooks: signed, in order, each receiver by itself."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from control.delivery.destination import Later, Parcel, Refused
from control.delivery.tuner import Tuner
from control.delivery.webhook import Webhook as WebhookSender
from control.delivery.webhook import destination
from tests.core.control.traces import Trace, complete, report, turn
from tests.shell.control.kit import control, evaluator, settings, until

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
ALL = ["call.started", "call.answered", "turn.completed", "call.ended", "report.linked", "report.repaired", "report.missing"]
TWO = ["call.started", "call.ended"]


@dataclass
class Receiver:
    """Takes events that carry the right signature. `script` holds statuses to answer before that, one an attempt."""

    url: str = ""
    script: list[int | tuple[int, dict[str, str]]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    attempts: list[str] = field(default_factory=list)
    """The `webhook-id` of every attempt, refused ones too."""

    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    async def take(self, request: web.Request) -> web.Response:
        event = Webhook(SECRET).verify(await request.read(), dict(request.headers))
        self.attempts.append(request.headers["webhook-id"])
        if self.script:
            step = self.script.pop(0)
            status, headers = step if isinstance(step, tuple) else (step, {})
            return web.Response(status=status, headers=headers)
        self.events.append(event)
        return web.Response(status=204)


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    hook = Receiver()
    async with served(hook.take) as hook.url:
        yield hook


@asynccontextmanager
async def served(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    finally:
        await runner.cleanup()


def hooked(*urls: str, events: list[str] = ALL) -> dict[str, Any]:
    return {"webhooks": [{"url": url, "secret": SECRET, "events": events, "allow_private": True} for url in urls]}


async def test_a_call_is_told_in_order_and_signed(tmp_path: Path) -> None:
    async with evaluator() as tuner, receiver() as hook, control(settings(tmp_path, tuner.base_url, **hooked(hook.url))) as client:
        trace = Trace("c1", "SCL_abc").answered()
        trace.add("turn_measured", 3000, turn=turn(1, 1000, 2000, 2600, 4000))
        await client.facts(*trace.facts)
        await until(lambda: hook.types() == ["call.started", "call.answered", "turn.completed"])
        before = len(trace.facts)
        await client.facts(*trace.ended().facts[before:])
        await client.report(report("r1", trace, sip_call_id="SCL_abc"))
        await until(lambda: hook.types() == ["call.started", "call.answered", "turn.completed", "call.ended", "report.linked"])
        started, _, measured, ended, linked = (event["data"] for event in hook.events)
        assert (started["call"], started["sip_call_id"], started["kind"]) == ("c1", "SCL_abc", "simulation")
        assert measured["turn"]["response_latency_ms"] == 600
        assert (ended["call"]["complete"], len(ended["call"]["turns"])) == (True, 2)
        assert linked["verdict"]["outcome"] == "linked"
        assert len(set(hook.attempts)) == 5
        await client.facts(*trace.facts)  # what is known already is no news
        await asyncio.sleep(0.1)
        assert len(hook.attempts) == 5


async def test_an_event_keeps_its_id_and_place_however_often_it_is_sent(tmp_path: Path) -> None:
    async with receiver() as hook, control(settings(tmp_path, "http://127.0.0.1:9", **hooked(hook.url))) as client:
        hook.script = [500]
        await client.facts(*complete("c1", "SCL_abc").facts)
        await client.facts(*complete("c2", "SCL_def", token=None).facts)
        await until(lambda: len(hook.events) == 6)
        for call in ("c1", "c2"):
            told = [event["type"] for event in hook.events if _call(event) == call]
            assert told == ["call.started", "call.answered", "call.ended"]
        assert len(hook.attempts) == 7
        assert hook.attempts.count(hook.attempts[0]) == 2


def _call(event: dict[str, Any]) -> str:
    call = event["data"]["call"]
    return call["id"] if isinstance(call, dict) else call


async def test_a_receiver_that_hangs_delays_nobody_else(tmp_path: Path) -> None:
    released = asyncio.Event()

    async def hang(request: web.Request) -> web.Response:
        await released.wait()
        return web.Response()

    async with (
        evaluator() as tuner,
        receiver() as well,
        served(hang) as hanging,
        control(settings(tmp_path, tuner.base_url, **hooked(well.url, hanging))) as client,
    ):
        for number in range(10):
            trace = complete(f"c{number}", f"SCL_{number}", token=None)
            await client.facts(*trace.facts)
            await client.report(report(f"r{number}", trace, sip_call_id=f"SCL_{number}"))
        await until(lambda: len(well.events) == 40)
        await until(lambda: len(tuner.calls()) == 10)
        released.set()


def test_the_signature_is_that_of_the_specifications_example() -> None:
    signer = Webhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", datetime.fromtimestamp(1614265330, UTC), '{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_gone_is_a_dead_letter_that_can_be_retried_and_the_next_event_goes_on(tmp_path: Path) -> None:
    async with receiver() as hook, control(settings(tmp_path, "http://127.0.0.1:9", **hooked(hook.url, events=TWO))) as client:
        hook.script = [410]
        await client.facts(*complete("c1", "SCL_abc").facts)
        await until(lambda: hook.types() == ["call.ended"])
        dead = (await client.get("/v1/deliveries?state=dead"))["deliveries"]
        assert [(each["destination"], each["kind"], each["call"]) for each in dead] == [(destination(hook.url), "call.started", "c1")]
        assert "wants no more" in dead[0]["last_error"]
        await client.post(f"/v1/deliveries/{dead[0]['id']}/retry")
        await until(lambda: hook.types() == ["call.ended", "call.started"])


async def test_what_waits_for_a_webhook_that_was_removed_is_a_dead_letter(tmp_path: Path) -> None:
    gone = "http://127.0.0.1:9/hook"
    async with control(settings(tmp_path, "http://127.0.0.1:9", **hooked(gone, events=["call.started"]))) as client:
        await client.facts(*complete("c1", "SCL_abc").facts)
    async with control(settings(tmp_path, "http://127.0.0.1:9")) as client:
        [dead] = (await client.get("/v1/deliveries?state=dead"))["deliveries"]
        assert "no longer configured" in dead["last_error"]


async def test_a_missing_report_is_told_when_the_grace_is_over(tmp_path: Path) -> None:
    async with receiver() as hook:
        changes = hooked(hook.url, events=["report.missing"]) | {"wire_only": {"enabled": False, "grace_s": 0}}
        async with control(settings(tmp_path, "http://127.0.0.1:9", **changes)) as client:
            await client.facts(*complete("c1", "SCL_abc").facts)
            await until(lambda: hook.types() == ["report.missing"])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("kind", ["webhook", "evaluator"])
async def test_a_redirect_is_not_followed(kind: str, status: int) -> None:
    """It would take the event, or the evaluator's key, to wherever it points: past the check of the address that was configured."""
    trapped: list[str] = []

    async def trap(request: web.Request) -> web.Response:
        trapped.append(request.path)
        return web.Response()

    async with served(trap) as elsewhere:

        async def redirect(request: web.Request) -> web.Response:
            return web.Response(status=status, headers={"Location": elsewhere})

        async with served(redirect) as url, aiohttp.ClientSession() as session:
            parcel = Parcel(1, "create_call", "r1", b"{}", "application/json", "1", "a", "key", 1)
            if kind == "webhook":
                result = await WebhookSender(session, url, SECRET, 5.0, lambda: datetime.now(UTC)).send(parcel)
                assert isinstance(result, Later)
            else:
                result = await Tuner(session, url.removesuffix("/hook"), 5.0, lambda: datetime.now(UTC)).send(parcel)
                assert isinstance(result, Refused)
    assert trapped == []
