"""The stand-in agent edge: challenges, talks, listens, can be interrupted, and reports the call through the evaluator's own client.

Its answers begin a set time after the caller truly fell silent. It decides that the caller has finished by a hangover of its own,
shorter than any of these times, so the start of the answer is known beforehand and hit to the sample.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from typing import assert_never

from sidecar.clocks import Mono, Wall
from sidecar.lab import sdp
from sidecar.lab.challenge import Challenge
from sidecar.lab.ear import Began, Ear, Fell
from sidecar.lab.report import AgentLine, CallerLine, Reporter, Story
from sidecar.lab.rtp import Heard, RtpParty
from sidecar.lab.script import AgentScript, Answer, Progress
from sidecar.lab.speech import clip
from sidecar.lab.ua import Call, Incoming, UserAgent

OWN_ID_HEADERS = ("X-Sip-Call-Id", "Call-ID")
CORRELATION = "X-Correlation-Id"
PLATFORM_ID = "X-Platform-Call-Id"


@dataclass(slots=True)
class Conversation:
    """One call as the agent lived it."""

    incoming: Incoming
    voice: RtpParty
    ear: Ear
    platform_id: str = field(default_factory=lambda: f"call_{secrets.token_hex(12)}")
    """The edge's own name for the call; it is in its responses and is the report's call_id."""
    lines: list[AgentLine | CallerLine] = field(default_factory=list)
    call: Call | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def sip_call_id(self) -> str:
        """The id under which the evaluator knows the call, as far as this edge can see it."""
        headers = self.incoming.request.headers
        return next(value for name in OWN_ID_HEADERS if (value := headers.get(name)))


class Agent:
    """A voice agent behind a SIP address of its own. `conversations` holds its calls in the order they came."""

    def __init__(
        self, script: AgentScript, *, challenge: Challenge | None = None, reporter: Reporter | None = None, progress: Progress | None = None
    ) -> None:
        self.conversations: list[Conversation] = []
        self.refused = 0
        self._script = script
        self._challenge = challenge
        self._reporter = reporter
        self._progress: Progress = progress or (lambda _when, _text: None)
        self._ua: UserAgent | None = None
        self._tasks: asyncio.TaskGroup | None = None

    async def start(self, tasks: asyncio.TaskGroup, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; calls run as tasks of `tasks`. Raises OSError when the port is taken."""
        self._tasks = tasks
        self._ua = await UserAgent.open(host, port, on_invite=self._invited, challenge=self._challenge)

    @property
    def ua(self) -> UserAgent:
        """The SIP side. Raises RuntimeError before start()."""
        if self._ua is None:
            raise RuntimeError("the agent is not listening yet")
        return self._ua

    async def stop(self) -> None:
        """Let go of all ports."""
        for conversation in self.conversations:
            conversation.voice.close()
        if self._ua is not None:
            await self._ua.close()

    def _invited(self, incoming: Incoming) -> None:
        if self._tasks is not None:
            self._tasks.create_task(self._serve(incoming))

    async def _serve(self, incoming: Incoming) -> None:
        """One call, from ringing to the report."""
        try:
            remote, offered = sdp.read(incoming.request.body)
        except ValueError:
            self.refused += 1
            incoming.reject(488)
            return
        codec = next((codec for codec in offered if codec in self._script.codecs), None)
        if codec is None:
            self.refused += 1
            incoming.reject(488)
            return
        conversation = await self._open(incoming)
        try:
            named = [(PLATFORM_ID, conversation.platform_id)]
            incoming.ring(headers=named)
            await asyncio.sleep(self._script.ring_s)
            if incoming.cancelled:
                return
            conversation.call = call = incoming.answer(sdp.describe(conversation.voice.address, [codec]), named)
            conversation.voice.start(remote, codec)
            await self._converse(conversation, call)
            if self._reporter is not None:
                await self._reporter.submit(self._story(conversation, call))
        finally:
            conversation.voice.close()
            conversation.done.set()

    async def _open(self, incoming: Incoming) -> Conversation:
        heard: list[Ear] = []

        def hear(packet: Heard) -> None:
            heard[0].hear(packet)

        voice = await RtpParty.open(self.ua.address[0], hear)
        heard.append(Ear(voice.heard, hangover_s=self._script.hangover_s))
        conversation = Conversation(incoming, voice, heard[0])
        self.conversations.append(conversation)
        return conversation

    async def _converse(self, conversation: Conversation, call: Call) -> None:
        """Greet, then answer each time the caller has finished, until somebody hangs up."""
        talk = asyncio.ensure_future(self._talk(conversation, call.answered))
        ended = asyncio.ensure_future(call.ended.wait())
        try:
            await asyncio.wait((talk, ended), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                talk.result()
                await call.bye()
        finally:
            talk.cancel()
            ended.cancel()
            await asyncio.gather(talk, ended, return_exceptions=True)

    async def _talk(self, conversation: Conversation, answered: Mono) -> None:
        """Returns when the script says that the agent hangs up."""
        script, voice, lines = self._script, conversation.voice, conversation.lines
        if script.greeting is not None:
            greeting = clip(script.greeting)
            at = Mono(answered + script.greeting_after_s)
            lines.append(AgentLine(greeting.text, voice.say(greeting, at)))
            self._progress(at, f"agent   “{greeting.text}”")
        answers = list(script.answers)
        while answers or script.hang_up_after_s is None:
            match await conversation.ear.events.get():
                case Began(start):
                    self._interrupted(conversation, start, answers)
                case Fell(start, end, _):
                    lines.append(CallerLine(start, end))
                    if answers:
                        answer = answers.pop(0)
                        words = clip(answer.clip)
                        at = Mono(end + answer.latency_s)
                        lines.append(AgentLine(words.text, voice.say(words, at), asked=end, answer=answer))
                        self._progress(at, f"agent   “{words.text}”")
                case _ as never:
                    assert_never(never)
        last = voice.time_of(voice.spoken[-1].stop) if voice.spoken else Mono(time.monotonic())
        await asyncio.sleep(last - time.monotonic() + (script.hang_up_after_s or 0.0))

    def _interrupted(self, conversation: Conversation, start: Mono, answers: list[Answer]) -> None:
        """The caller speaks: take back an answer that is not begun, else fall silent a reaction time later."""
        voice, lines = conversation.voice, conversation.lines
        line = lines[-1] if lines else None
        if not isinstance(line, AgentLine) or voice.time_of(line.spoken.stop) <= start:
            return
        if line.answer is not None and line.spoken.at >= voice.sample_at(Mono(time.monotonic())):
            voice.spoken.remove(line.spoken)
            lines.remove(line)
            answers.insert(0, line.answer)
        else:
            voice.cut(line.spoken, Mono(start + self._script.reaction_s))

    def _story(self, conversation: Conversation, call: Call) -> Story:
        headers, now = conversation.incoming.request.headers, time.time()
        return Story(
            call_id=conversation.platform_id,
            sip_call_id=conversation.sip_call_id,
            correlation_id=headers.get(CORRELATION),
            answered=call.answered,
            answered_wall=Wall(now - (time.monotonic() - call.answered)),
            ended_wall=Wall(now),
            hung_up_by_agent=call.ended_by_us,
            lines=tuple(conversation.lines),
            time_of=conversation.voice.time_of,
        )
