"""One direct call between the stand-ins, and its truth."""

from __future__ import annotations

import asyncio

from sidecar.identity.digest import Credentials
from sidecar.lab.agent import Agent
from sidecar.lab.evaluator import Evaluator, Simulation
from sidecar.lab.script import CallerScript
from sidecar.lab.truth import Truth, truth


async def converse(agent: Agent, caller: CallerScript, credentials: Credentials | None = None) -> tuple[Simulation, Truth]:
    """Let a fresh evaluator call `agent` over loopback."""
    evaluator = Evaluator(caller)
    await evaluator.start()
    async with asyncio.TaskGroup() as tasks:
        try:
            await agent.start(tasks)
            host, port = agent.ua.address
            simulation = await evaluator.simulate(f"sip:agent@{host}:{port}", credentials=credentials)
            conversation = agent.conversations[-1]
            await asyncio.wait_for(conversation.done.wait(), 2)
            assert simulation.call is not None
            return simulation, truth(simulation.call.answered, simulation.voice.speech(), conversation.voice.speech())
        finally:
            await evaluator.stop()
            await agent.stop()
