"""SIGKILL at random instants, of either half, under calls and reports: all that was accepted is delivered, every call comes back."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.core.control.traces import report
from tests.e2e.test_lifecycle import sidecar_settings
from tests.shell.control.kit import Evaluator, evaluator
from tests.support.postgres import Databases, server
from tests.support.product import Product, free_port, get_json, loopback, running, until
from tests.support.sipp import SCENARIOS, Sipp

pytestmark = pytest.mark.peer

CALLS_A_SECOND = 8
HOLD_MS = 600
PATIENCE_S = 90.0


class Half:
    """A process that is started again with the same file after each kill."""

    def __init__(self, half: str, folder: Path, settings: dict[str, Any]) -> None:
        self._made = (half, folder, settings)
        self._stack = ExitStack()
        self.product: Product

    def start(self) -> None:
        self.product = self._stack.enter_context(running(*self._made))

    def kill(self) -> None:
        self.product.kill()
        self._stack.close()

    def stop(self) -> None:
        self._stack.close()


class Agent:
    """Reports every call as its SDK would: tries again with the same body until it is accepted."""

    def __init__(self, url: str, call_id: str) -> None:
        self._url = f"{url}/api/v1/public/call?workspace_id=7&agent_remote_identifier=agent-1"
        self._call_id = call_id
        self.accepted: list[str] = []
        self.done = asyncio.Event()

    async def run(self) -> None:
        async with aiohttp.ClientSession(headers={"Authorization": "Bearer tr_api_test"}) as http:
            while not self.done.is_set():
                n = len(self.accepted) + 1
                body = json.dumps(report(f"report-{n}", sip_call_id=self._call_id.format(n)))
                while not await self._accepted(http, body):
                    await asyncio.sleep(0.1)
                self.accepted.append(f"report-{n}")
                await asyncio.sleep(1 / CALLS_A_SECOND)

    async def _accepted(self, http: aiohttp.ClientSession, body: str) -> bool:
        try:
            async with http.post(self._url, data=body, timeout=aiohttp.ClientTimeout(10)) as answer:
                return answer.status in (200, 201) and (await answer.json())["provider_call_id"] is not None
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False


@contextmanager
def database(engine: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Control's settings for an engine."""
    if engine == "sqlite":
        yield {"database": f"sqlite+aiosqlite:///{folder}/control.db"}
        return
    with server() as running_server:
        key = folder / "key"
        key.write_text("a" * 43 + "=")
        yield {"database": Databases(running_server).take(), "secret_key_file": str(key)}


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_a_few_kills_lose_nothing(engine: str, tmp_path: Path) -> None:
    await _kills_lose_nothing(engine, tmp_path, kills=4)


@pytest.mark.load
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_two_hundred_kills_lose_nothing(engine: str, tmp_path: Path) -> None:
    await _kills_lose_nothing(engine, tmp_path, kills=200)


async def _kills_lose_nothing(engine: str, folder: Path, *, kills: int) -> None:
    host, caller, edge = loopback(), loopback(), loopback()
    port, edge_port = free_port(host, socket.SOCK_STREAM), free_port(edge)
    url = f"http://{host}:{port}"
    async with evaluator() as tuner:
        with ExitStack() as stack:
            told = stack.enter_context(database(engine, folder))
            settings = {"listen": f"{host}:{port}", "enrich_wait_s": 0.5, "evaluator": {"base_url": tuner.base_url, "timeout_s": 2}, **told}
            target = sidecar_settings(host, f"sip:agent@{edge}:{edge_port}", url)
            halves = [Half("control", folder / "control", settings), Half("sidecar", folder / "sidecar", target)]
            for half in halves:
                await asyncio.to_thread(half.start)
                stack.callback(half.stop)
            agent_edge = Sipp("agent", folder, edge, edge_port, calls=1_000_000, options=["-recv_timeout", "8000"])
            stack.callback(agent_edge.stop)
            dialler = _dialler(folder, caller, target["sip"]["listen"][0].removeprefix("udp://"))
            stack.callback(dialler.stop)
            agent = Agent(url, f"{{}}-{dialler.process.pid}@{caller}")
            reporting = asyncio.create_task(agent.run())
            chance = random.Random(kills)
            for _ in range(kills):
                await asyncio.sleep(chance.uniform(0.05, 1.0))
                victim = chance.choice(halves)
                await asyncio.to_thread(victim.kill)
                await asyncio.to_thread(victim.start)
            await asyncio.sleep(1.0)
            agent.done.set()
            await reporting
            dialler.process.send_signal(signal.SIGUSR1)  # no new call; those under way end
            with suppress(TimeoutError):
                async with asyncio.timeout(20):
                    while dialler.process.poll() is None:
                        await asyncio.sleep(0.1)
            await asyncio.to_thread(_everything_is_back, folder, url, halves[1].product, dialler)
            await asyncio.to_thread(until, "every report", lambda: set(agent.accepted) <= {name for name, _ in tuner.received}, PATIENCE_S)
            _delivered_as_accepted(tuner, agent)


def _dialler(folder: Path, caller: str, sip: str) -> Sipp:
    """Calls that note their Call-ID once they are answered, and give up soon when the sidecar is gone."""
    text = (SCENARIOS / "caller.xml").read_text()
    assert '<exec rtp_stream="speech.ulaw,1,0"/>' in text
    file = folder / "caller-crash.xml"
    file.write_text(text.replace('<exec rtp_stream="speech.ulaw,1,0"/>', '<log message="answered [call_id]"/>'))
    options = ["-r", str(CALLS_A_SECOND), "-s", "agent", "-d", str(HOLD_MS), "-recv_timeout", "4000", "-max_non_invite_retrans", "3"]
    return Sipp("caller", folder, caller, free_port(caller), calls=1_000_000, options=options, target=sip, file=file)


def _everything_is_back(folder: Path, url: str, sidecar: Product, dialler: Sipp) -> None:
    """Every call that was answered is in control and complete; the sidecar holds nothing any more."""
    spool = folder / "sidecar" / "spool"
    until("an empty spool", lambda: not list(spool.glob("*.jsonl")), PATIENCE_S)
    logged = (dialler.folder / "log.txt").read_text().splitlines()
    answered = {line.split()[-1] for line in logged if line.startswith("answered ")}
    assert len(answered) > 3
    known: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for call in _calls(url):
        known[call["sip_call_id"]].append(call)
    assert answered <= known.keys()
    assert all(call["complete"] for calls in known.values() for call in calls)
    # The instant between an answer that left and its fact may be the kill's; then the call was cut short, and says so.
    told = [name for name in answered if any(call["answered_at"] or call["reason"] == "interrupted" for call in known[name])]
    assert set(told) == answered
    ended = [call for calls in known.values() for call in calls if call["reason"] != "interrupted"]
    assert len({call["id"] for call in ended}) == len(ended) > 0
    state = get_json(sidecar.event("ready")["admin"] + "/v1/state")
    assert (state["engine"]["calls"], state["engine"]["dialogs"], state["reporter"]["spool"]["open"]) == (0, 0, 0)
    assert state["rtp_port_pairs_free"] == 5000


def _calls(url: str) -> Iterator[dict[str, Any]]:
    cursor = ""
    while True:
        page = get_json(f"{url}/v1/calls?limit=200{cursor}")
        yield from page["calls"]
        if page["next"] is None:
            return
        cursor = f"&cursor={page['next']}"


def _delivered_as_accepted(tuner: Evaluator, agent: Agent) -> None:
    """Nothing under a call_id that nobody reported, and one body for each."""
    bodies: dict[str, set[bytes]] = defaultdict(set)
    for body in tuner.attempts:
        bodies[json.loads(body)["call_id"]].add(body)
    assert bodies.keys() == set(agent.accepted)
    assert [name for name, versions in bodies.items() if len(versions) > 1] == []
