"""`trunkside demo`: one simulated call through the whole product on free loopback ports, held against what the stand-ins know."""

from __future__ import annotations

import asyncio
import contextlib
import json as jsonlib
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from sidecar.lab.agent import Agent
from sidecar.lab.challenge import Challenge
from sidecar.lab.evaluator import AgentSilent, Evaluator
from sidecar.lab.evaluator_api import EvaluatorApi
from sidecar.lab.processes import LOOPBACK, Process, ProcessFailed, free_udp_range, reserve_tcp_port
from sidecar.lab.report import LabUnavailable, Reporter
from sidecar.lab.script import AgentScript, CallerScript, HangUp
from sidecar.lab.speech import clip
from sidecar.lab.truth import Truth, truth
from sidecar.lab.ua import CallRefused
from sidecar.lab.view import View

API_KEY, WORKSPACE, AGENT_ID = "tr_api_demo", 1, "demo-agent"
REALM, USER, PASSWORD = "agent-edge", "trunkside", "demo-password"
DELIVERY_S = 20.0
"""How long after the call its report may take to reach the evaluator."""
TRACE_S = 6.0
"""How long after a refused call its trace may take to reach control."""
POLL_S = 0.1
SUCCESS = ("linked", "repaired")


class DemoFailed(Exception):
    """The demo did not come to its end; the text is the one line to show."""


@dataclass(slots=True)
class Result:
    """What the demo shows at the end. `failure` is the one line that says why it failed."""

    call: dict[str, Any] | None = None
    ladder: str = ""
    truth: Truth = field(default_factory=lambda: Truth(None))
    linked: bool = False
    received: dict[str, Any] | None = None
    failure: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The one object of `--json`."""
        return {
            "call": self.call,
            "truth": self.truth.as_json(),
            "evaluator": {"linked": self.linked, "received": self.received},
        }


async def run_demo(*, json: bool = False, no_agent_id: bool = False, wrong_credentials: bool = False) -> int:
    """Run it; the exit status: 0 only when the call was linked (or repaired), accepted, and linked by the evaluator too.

    `json`: one object on stdout and nothing else there. `no_agent_id`: the agent's report has no SIP id. `wrong_credentials`: the route's
    password is wrong. Progress goes to stderr. Whatever happens, every process and file is gone afterwards.
    """
    view = View()
    result = Result()
    try:
        with view.live():
            await _Demo(view, result, no_agent_id, wrong_credentials).run()
    except (DemoFailed, LabUnavailable, ProcessFailed, OSError, aiohttp.ClientError) as error:
        result.failure = str(error) or type(error).__name__
    if json:
        sys.stdout.write(jsonlib.dumps(result.as_json(), ensure_ascii=False) + "\n")
    elif result.failure is None or result.received is not None:
        view.show(result)
    if result.failure is not None:
        view.fail(result.failure)
        return 1
    return 0


class _Demo:
    """The parts of one run and the order in which they come and go."""

    def __init__(self, view: View, result: Result, no_agent_id: bool, wrong_credentials: bool) -> None:
        self._view = view
        self._result = result
        self._no_agent_id = no_agent_id
        self._wrong_credentials = wrong_credentials
        self._api = EvaluatorApi(api_key=API_KEY, workspace_id=WORKSPACE, agent_id=AGENT_ID)
        self._control_url = ""

    async def run(self) -> None:
        """Raises DemoFailed, ProcessFailed, LabUnavailable or OSError with one line; fills the result."""
        _keep_proxies_away()
        async with contextlib.AsyncExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trunkside-demo-")))
            await self._api.start()
            stack.push_async_callback(self._api.stop)
            with contextlib.closing(reserve_tcp_port()) as held:
                self._control_url = f"http://{LOOPBACK}:{held.getsockname()[1]}"
                agent = await self._start_agent(stack)
                sip = await self._start_product(stack, directory, agent)
            evaluator = Evaluator(CallerScript(), self._view.heard)
            await evaluator.start()
            stack.push_async_callback(evaluator.stop)
            session = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)))
            await self._call(evaluator, agent, sip, session)

    async def _start_agent(self, stack: contextlib.AsyncExitStack) -> Agent:
        spoken = tuple(clip(step.clip).text for step in CallerScript().steps if not isinstance(step, HangUp))
        reporter = Reporter(self._control_url, API_KEY, WORKSPACE, AGENT_ID, no_agent_id=self._no_agent_id, recognised=spoken)
        agent = Agent(AgentScript(), challenge=Challenge(REALM, USER, PASSWORD), reporter=reporter, progress=self._view.heard)
        listening: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(_serve(agent, listening), name="agent")

        async def stop() -> None:
            serving.cancel()
            (outcome,) = await asyncio.gather(serving, return_exceptions=True)
            if isinstance(outcome, ExceptionGroup):
                raise DemoFailed(f"the stand-in agent failed: {outcome.exceptions[0]!r}") from outcome

        stack.push_async_callback(stop)
        await asyncio.wait((serving, listening), return_when=asyncio.FIRST_COMPLETED)
        return agent

    async def _start_product(self, stack: contextlib.AsyncExitStack, directory: Path, agent: Agent) -> str:
        """Start both halves at a time; the sidecar's SIP address as host:port."""
        self._view.step("starting control and sidecar")
        host, port = agent.ua.address
        low, high = free_udp_range()
        files = {
            "control": {
                "listen": self._control_url.removeprefix("http://"),
                "database": f"sqlite+aiosqlite:///{directory}/control.db",
                "evaluator": {
                    "kind": "tuner",
                    "base_url": self._api.base_url,
                    "api_key": API_KEY,
                    "workspace_id": WORKSPACE,
                    "agent_id": AGENT_ID,
                },
            },
            "sidecar": {
                "name": "demo",
                "sip": {"listen": [f"udp://{LOOPBACK}:0"]},
                "routes": [
                    {
                        "name": "agent",
                        "match": {"user": "agent"},
                        "target": f"sip:agent@{host}:{port}",
                        "username": USER,
                        "password": "not-" + PASSWORD if self._wrong_credentials else PASSWORD,
                    }
                ],
                "media": {"ports": [low, high]},
                "control": {"url": self._control_url},
                "spool": {"path": f"{directory}/spool"},
                "admin": {"listen": f"{LOOPBACK}:0"},
                "drain": {"deadline_s": 0, "goodbye_s": 1, "flush_s": 1},
            },
        }
        processes = {}
        for name, content in files.items():
            config = directory / f"{name}.yaml"
            config.touch(mode=0o600)
            config.write_text(yaml.safe_dump(content), encoding="utf-8")
            processes[name] = await stack.enter_async_context(Process(name, config))
        await processes["control"].ready()
        return str((await processes["sidecar"].ready())["sip"][0]).removeprefix("udp://")

    async def _call(self, evaluator: Evaluator, agent: Agent, sip: str, session: aiohttp.ClientSession) -> None:
        """The call itself, and then what became of its report."""
        dialled: list[str] = []

        def note(call_id: str, correlation_id: str) -> None:
            dialled.append(call_id)
            self._api.dialled_call(call_id, correlation_id)

        result = self._result
        try:
            simulation = await evaluator.simulate(f"sip:agent@{sip}", dialled=note)
        except CallRefused as error:
            result.call = await self._fetch(session, dialled[0], TRACE_S, lambda call: call["complete"])
            cause = (result.call or {}).get("cause") or "no trace of it reached control"
            raise DemoFailed(f"the call was refused with {error.status} {error.reason}: {cause}") from error
        except (AgentSilent, ValueError) as error:
            raise DemoFailed(f"the call failed: {error}") from error
        if simulation.call is None:
            raise DemoFailed("the call was not answered")
        conversation = agent.conversations[-1]
        result.truth = truth(simulation.call.answered, simulation.voice.speech(), conversation.voice.speech())
        self._view.step("waiting for the report to arrive at the evaluator")
        call_id = simulation.call_id
        result.call = await self._fetch(session, call_id, DELIVERY_S, _is_settled)
        result.linked = self._api.linked(call_id)
        report = self._api.report_for(call_id) or next(iter(self._api.reports.values()), None)
        result.received = None if report is None else report.body
        if result.call is not None:
            async with session.get(f"{self._control_url}/v1/calls/{result.call['id']}/ladder") as answer:
                result.ladder = await answer.text()
        result.failure = self._judge()

    def _judge(self) -> str | None:
        """Why the demo failed, or None."""
        call, received = self._result.call, self._result.received
        if call is None:
            return f"control did not hear of the call within {DELIVERY_S:g} s"
        if received is None:
            return f"no report reached the evaluator within {DELIVERY_S:g} s; the call's outcome is {call['verdict']['outcome']}"
        if call["verdict"]["outcome"] not in SUCCESS or not _is_accepted(call):
            return f"the call's outcome is {call['verdict']['outcome']}, " + ("accepted" if _is_accepted(call) else "not accepted")
        return None if self._result.linked else "the evaluator received a report that it could not link to the call it dialled"

    async def _fetch(self, session: aiohttp.ClientSession, call_id: str, patience_s: float, enough: Any) -> dict[str, Any] | None:
        """The call as control has it, once it is `enough`, or as it is when the patience is over."""
        call: dict[str, Any] | None = None
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            async with session.get(f"{self._control_url}/v1/calls", params={"sip_call_id": call_id}) as answer:
                found = (await answer.json())["calls"]
            call = found[0] if found else None
            if call is not None and enough(call):
                break
            await asyncio.sleep(POLL_S)
        return call


async def _serve(agent: Agent, listening: asyncio.Future[None]) -> None:
    """Be the agent edge until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        try:
            await agent.start(tasks, LOOPBACK)
            listening.set_result(None)
            await asyncio.Event().wait()
        finally:
            await agent.stop()


def _is_accepted(call: dict[str, Any]) -> bool:
    return any(hop["hop"] == "accepted" for hop in call["verdict"]["hops"])


def _is_settled(call: dict[str, Any]) -> bool:
    return bool(call["complete"]) and _is_accepted(call) and call["verdict"]["outcome"] != "pending"


def _keep_proxies_away() -> None:
    """The agent's HTTP client heeds proxy settings; nothing here may leave the machine."""
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), LOOPBACK)))
