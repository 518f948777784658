"""The stand-ins of the lab beside a browser that blocks: an evaluator with its API and a talking agent, on an event loop of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from sidecar.lab.agent import Agent
from sidecar.lab.challenge import Challenge
from sidecar.lab.evaluator import Evaluator
from sidecar.lab.evaluator_api import Behaviour, EvaluatorApi
from sidecar.lab.report import Reporter
from sidecar.lab.script import AgentScript, Answer, CallerScript, HangUp, Say
from sidecar.lab.speech import clip

KEY, WORKSPACE, AGENT = "tr_api_web", 1, "web-agent"
REALM, USER, PASSWORD = "agent-edge", "trunkside", "web-password"
CALLER = CallerScript(steps=(Say("caller_book"), Say("caller_yes"), HangUp()))
ANSWERS = (Answer("agent_which_day", 0.62), Answer("agent_booked", 0.94))
SPOKEN = tuple(clip(name).text for name in ("caller_book", "caller_yes"))
T = TypeVar("T")


class Lab:
    """`behaviour` of the evaluator's API may be changed while it runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop, control: str) -> None:
        self._loop = loop
        self.behaviour = Behaviour()
        self.api = EvaluatorApi(api_key=KEY, workspace_id=WORKSPACE, agent_id=AGENT, behaviour=self.behaviour)
        reporter = Reporter(control, KEY, WORKSPACE, AGENT, recognised=SPOKEN)
        self.agent = Agent(AgentScript(answers=ANSWERS), challenge=Challenge(REALM, USER, PASSWORD), reporter=reporter)

    def run(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin `work` on the lab's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def serve(self, listening: threading.Event, done: asyncio.Event) -> None:
        """Be there until `done`."""
        await self.api.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                await self.agent.start(tasks, "127.0.0.1")
                listening.set()
                await done.wait()
                await self.agent.stop()
        finally:
            await self.api.stop()

    async def call(self, sip: str, dialled: Future[str]) -> None:
        """One simulated call through `sip` (host:port); `dialled` gets its Call-ID."""
        evaluator = Evaluator(CALLER)
        await evaluator.start()

        def note(call_id: str, correlation_id: str) -> None:
            self.api.dialled_call(call_id, correlation_id)
            dialled.set_result(call_id)

        try:
            await evaluator.simulate(f"sip:agent@{sip}", dialled=note)
        finally:
            await evaluator.stop()


@contextmanager
def lab(control: str) -> Iterator[Lab]:
    """A lab whose agent reports to `control`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    stand_ins, listening, done = Lab(loop, control), threading.Event(), asyncio.Event()
    serving = stand_ins.run(stand_ins.serve(listening, done))
    try:
        if not listening.wait(20):
            raise AssertionError("the lab does not listen")
        yield stand_ins
    finally:
        loop.call_soon_threadsafe(done.set)
        serving.result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()
