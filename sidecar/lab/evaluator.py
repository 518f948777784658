"""The stand-in evaluator's dialling side: places a call with real speech, follows its script, interrupts, hangs up."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

from sidecar.clocks import Addr, Mono
from sidecar.identity.digest import Credentials
from sidecar.lab import sdp
from sidecar.lab.ear import Began, Ear, Fell
from sidecar.lab.rtp import Heard, RtpParty
from sidecar.lab.script import CallerScript, HangUp, Interrupt, Progress, Say
from sidecar.lab.speech import clip
from sidecar.lab.ua import Call, UserAgent

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
CALL_ID_LENGTH = 27


class AgentSilent(Exception):
    """The agent said nothing for as long as the script waits; the call was hung up."""


@dataclass(slots=True)
class Simulation:
    """One call as the evaluator lived it."""

    call_id: str
    correlation_id: str
    voice: RtpParty
    call: Call | None = None
    heard: list[Fell] = field(default_factory=list)
    """What the agent said, as heard here."""
    provisional: list[int] = field(default_factory=list)


def new_call_id() -> str:
    """27 base62 characters without `@`."""
    return "".join(secrets.choice(BASE62) for _ in range(CALL_ID_LENGTH))


class Evaluator:
    """Places simulated calls from a SIP address of its own."""

    def __init__(self, script: CallerScript, progress: Progress | None = None) -> None:
        self._script = script
        self._progress: Progress = progress or (lambda _when, _text: None)
        self._ua: UserAgent | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Take a SIP port. Raises OSError when it is taken."""
        self._ua = await UserAgent.open(host, port)

    async def stop(self) -> None:
        """Free the SIP port."""
        if self._ua is not None:
            await self._ua.close()

    async def simulate(
        self,
        uri: str,
        *,
        from_user: str = "simulation",
        credentials: Credentials | None = None,
        proxy: Addr | None = None,
        dialled: Callable[[str, str], None] | None = None,
    ) -> Simulation:
        """Dial `uri`, play the script, hang up. `dialled` hears Call-ID and correlation id before the INVITE leaves.

        Raises CallRefused when nobody answers, ValueError when the answer has no G.711, AgentSilent when the agent does not talk.
        """
        if self._ua is None:
            raise RuntimeError("the evaluator has no SIP port yet")
        host, port = self._ua.address
        ears: list[Ear] = []

        def hear(packet: Heard) -> None:
            ears[0].hear(packet)

        voice = await RtpParty.open(host, hear)
        ears.append(Ear(voice.heard, hangover_s=self._script.hangover_s))
        simulation = Simulation(new_call_id(), secrets.token_hex(16), voice)
        try:
            if dialled is not None:
                dialled(simulation.call_id, simulation.correlation_id)
            self._progress(Mono(time.monotonic()), f"caller  dials {uri}")
            outgoing = self._ua.dial(
                uri,
                sdp.describe(voice.address, self._script.codecs),
                from_uri=f"sip:{from_user}@{host}:{port}",
                call_id=simulation.call_id,
                headers=[("X-Correlation-Id", simulation.correlation_id)],
                credentials=credentials,
                proxy=proxy,
            )
            simulation.provisional = outgoing.provisional
            simulation.call = call = await outgoing.answered()
            self._progress(call.answered, "agent   answers")
            remote, codecs = sdp.read(call.remote_sdp)
            voice.start(remote, codecs[0])
            await self._talk(simulation, ears[0], call)
        finally:
            voice.close()
        return simulation

    async def _talk(self, simulation: Simulation, ear: Ear, call: Call) -> None:
        """Play the script; an agent that hangs up ends it."""
        steps = asyncio.ensure_future(self._steps(simulation, ear))
        ended = asyncio.ensure_future(call.ended.wait())
        try:
            await asyncio.wait((steps, ended), return_when=asyncio.FIRST_COMPLETED)
            if steps.done():
                steps.result()
        finally:
            steps.cancel()
            ended.cancel()
            await asyncio.gather(steps, ended, return_exceptions=True)
            await call.bye()

    async def _steps(self, simulation: Simulation, ear: Ear) -> None:
        """Returns when it is time to hang up."""
        voice, since = simulation.voice, Mono(0.0)
        for step in self._script.steps:
            match step:
                case Say(name, pause):
                    fell = await self._silence_after(simulation, ear, since)
                    at = Mono(fell.end + pause)
                case Interrupt(name, after):
                    at = Mono(await self._speech_after(simulation, ear, since) + after)
                case HangUp(pause):
                    fell = await self._silence_after(simulation, ear, since)
                    await asyncio.sleep(fell.end + pause - time.monotonic())
                    return
                case _ as never:
                    assert_never(never)
            spoken = voice.say(clip(name), at)
            since = voice.time_of(spoken.at + clip(name).onset)
            over = "over the agent: " if isinstance(step, Interrupt) else ""
            self._progress(since, f"caller  {over}“{clip(name).text}”")
        await asyncio.Event().wait()

    async def _silence_after(self, simulation: Simulation, ear: Ear, since: Mono) -> Fell:
        """The next time that the agent falls silent after speech which it began after `since`."""
        while True:
            match await self._next(ear):
                case Fell() as fell:
                    simulation.heard.append(fell)
                    if fell.start > since:
                        return fell
                case Began():
                    pass
                case _ as never:
                    assert_never(never)

    async def _speech_after(self, simulation: Simulation, ear: Ear, since: Mono) -> Mono:
        """When the agent next begins to speak, after `since`."""
        while True:
            match await self._next(ear):
                case Began(start):
                    if start > since:
                        return start
                case Fell() as fell:
                    simulation.heard.append(fell)

    async def _next(self, ear: Ear) -> Began | Fell:
        try:
            return await asyncio.wait_for(ear.events.get(), self._script.patience_s)
        except TimeoutError:
            raise AgentSilent(f"the agent was not heard for {self._script.patience_s:g} s") from None
