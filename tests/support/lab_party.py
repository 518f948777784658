"""The lab's stand-ins as programs, for hosts of their own: `lab_party agent HOST PORT`, `lab_party evaluator HOST SIP-URI`."""

from __future__ import annotations

import asyncio
import json
import sys

from sidecar.lab.agent import Agent
from sidecar.lab.evaluator import Evaluator
from sidecar.lab.script import AgentScript, Answer, CallerScript, HangUp, Say

LATENCY_S = 0.6


async def agent(host: str, port: int) -> None:
    """An agent that greets and answers once, until it is killed."""
    stand_in = Agent(AgentScript(greeting="caller_yes", greeting_after_s=0.2, answers=(Answer("caller_yes", LATENCY_S),), ring_s=0.0))
    async with asyncio.TaskGroup() as tasks:
        await stand_in.start(tasks, host, port)
        print("ready", flush=True)  # noqa: T201
        await asyncio.Event().wait()


async def evaluator(host: str, uri: str) -> None:
    """One simulated call: prints what was heard, in seconds."""
    stand_in = Evaluator(CallerScript(steps=(Say("caller_yes"), HangUp(0.1)), patience_s=5.0))
    await stand_in.start(host)
    try:
        simulation = await stand_in.simulate(uri)
        print(json.dumps({"heard": [[span.start, span.end] for span in simulation.heard]}))  # noqa: T201
    finally:
        await stand_in.stop()


if __name__ == "__main__":
    role, host, third = sys.argv[1:]
    asyncio.run(agent(host, int(third)) if role == "agent" else evaluator(host, third))
