"""Agent and evaluator directly connected over loopback: short conversations whose delays are what the agent was told."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.identity.digest import Credentials
from sidecar.lab.agent import Agent
from sidecar.lab.challenge import Challenge
from sidecar.lab.evaluator import AgentSilent
from sidecar.lab.g711 import Codec
from sidecar.lab.script import AgentScript, Answer, CallerScript, HangUp, Interrupt, Say
from sidecar.lab.ua import CallRefused
from tests.shell.lab.support import converse

SHORT = "caller_yes"
GATE = Challenge("edge.test", "tester", "right", 401, "SHA-256")


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
async def test_what_the_agent_says_is_heard_when_it_was_said(codec: Codec) -> None:
    agent = Agent(AgentScript(greeting=SHORT, greeting_after_s=0.3, answers=(), ring_s=0.0, codecs=(codec,)))
    simulation, found = await converse(agent, CallerScript(steps=(HangUp(0.1),), patience_s=3.0))
    ((start, end),) = agent.conversations[0].voice.speech()
    call = agent.conversations[0].call
    assert call is not None
    assert start - call.answered == pytest.approx(0.3, abs=0.001)
    assert found.greeting_ms == pytest.approx(300, abs=30)  # counted from the 200 OK as it arrived
    assert simulation.heard[0].start == pytest.approx(start, abs=0.006)
    assert simulation.heard[0].end == pytest.approx(end, abs=0.006)
    assert simulation.call is not None
    assert simulation.call.ended_by_us


async def test_turns_are_as_scheduled_and_a_barge_in_silences_the_agent() -> None:
    script = AgentScript(
        greeting=SHORT,
        greeting_after_s=0.1,
        answers=(Answer("agent_long_list", 0.5), Answer(SHORT, 0.62)),
        ring_s=0.0,
    )
    agent = Agent(script, challenge=GATE)
    caller = CallerScript(steps=(Say("caller_yes"), Interrupt("caller_thanks", 0.8), HangUp(0.1)), patience_s=4.0)
    _, found = await converse(agent, caller, Credentials("tester", "right"))
    assert found.response_latency_ms == pytest.approx([500, 620], abs=4)
    assert found.barge_in_ms == pytest.approx([300], abs=60)  # a syllable may end before the cut
    assert agent.ua.gate is not None
    assert agent.ua.gate.verdicts == {"no_credentials": 1, "accepted": 1}


async def test_a_pause_inside_an_utterance_is_not_answered() -> None:
    agent = Agent(AgentScript(greeting=SHORT, greeting_after_s=0.0, answers=(Answer(SHORT, 0.55),), ring_s=0.0))
    _, found = await converse(agent, CallerScript(steps=(Say("caller_pause", 0.45), HangUp(0.0)), patience_s=4.0))
    assert found.response_latency_ms == pytest.approx([550], abs=4)


async def test_the_agent_may_hang_up_itself() -> None:
    agent = Agent(AgentScript(greeting=SHORT, greeting_after_s=0.0, answers=(), ring_s=0.0, hang_up_after_s=0.05))
    simulation, _ = await converse(agent, CallerScript(steps=(Say("caller_yes", 3.0),), patience_s=4.0))
    assert simulation.call is not None
    assert not simulation.call.ended_by_us


@pytest.mark.parametrize("status", [401, 407])
@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
async def test_a_wrong_password_ends_the_call_with_the_challenge(status: int, algorithm: str) -> None:
    agent = Agent(AgentScript(), challenge=Challenge("edge.test", "tester", "right", status, algorithm))  # type: ignore[arg-type]
    with pytest.raises(ExceptionGroup) as caught:
        await converse(agent, CallerScript(), Credentials("tester", "wrong"))
    (refused,) = caught.value.exceptions
    assert isinstance(refused, CallRefused)
    assert refused.status == status
    assert agent.ua.gate is not None
    assert agent.ua.gate.verdicts == {"no_credentials": 1, "wrong_response": 1}
    assert agent.conversations == []


async def test_a_silent_agent_is_hung_up_on() -> None:
    agent = Agent(AgentScript(greeting=None, answers=(), ring_s=0.0))
    with pytest.raises(ExceptionGroup) as caught:
        await converse(agent, CallerScript(patience_s=0.3))
    assert isinstance(caught.value.exceptions[0], AgentSilent)
    call = agent.conversations[0].call
    assert call is not None
    await asyncio.wait_for(call.ended.wait(), 1)
