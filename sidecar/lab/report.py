"""The agent's report after a call: a Create Call through the evaluator's published client, figures included as frameworks state them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sidecar.clocks import Mono, Wall
from sidecar.lab.rtp import Spoken
from sidecar.lab.script import Answer
from sidecar.lab.speech.bounds import spans

if TYPE_CHECKING:
    from tuner_core.models import TranscriptSegment

VAD_DELAY_S = 0.25
"""A framework counts from its detector's end-of-speech event, so what it calls latency lacks the detector's delay."""


class LabUnavailable(Exception):
    """A package that the stand-ins need is not installed; the text says which and how to get it."""


@dataclass(frozen=True, slots=True)
class CallerLine:
    """What the agent heard the caller say."""

    start: Mono
    end: Mono


@dataclass(frozen=True, slots=True)
class AgentLine:
    """What the agent said; `asked` is the end of the caller's speech that it answers."""

    text: str
    spoken: Spoken
    asked: Mono | None = None
    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """A finished call as the agent knows it."""

    call_id: str
    """The platform's own name for the call."""
    sip_call_id: str
    correlation_id: str | None
    answered: Mono
    answered_wall: Wall
    ended_wall: Wall
    hung_up_by_agent: bool
    lines: tuple[AgentLine | CallerLine, ...]
    time_of: Callable[[int], Mono]
    """Sample of the agent's stream to the time it is heard."""


@dataclass(slots=True)
class Reporter:
    """Posts to `base_url`. `no_agent_id` makes the report one of a platform that lost every SIP header."""

    base_url: str
    api_key: str
    workspace_id: int
    agent_id: str
    no_agent_id: bool = False
    recognised: tuple[str, ...] = ()
    """What the agent's speech recognition makes of the caller's utterances, in order."""
    answers: list[dict[str, Any] | None] = field(default_factory=list)
    """What each post came back with; None for a failure."""

    def __post_init__(self) -> None:
        if importlib.util.find_spec("tuner_core") is None:
            raise LabUnavailable("the stand-in agent reports through the package tuner-core; install it with: pip install 'trunkside[lab]'")

    async def submit(self, story: Story) -> None:
        """Post the report, with the client's own retries."""
        from loguru import logger
        from tuner_core.client import submit_call
        from tuner_core.config import TunerConfig
        from tuner_core.models import AiModels, CallPayload, GeneralMetaData, UsageToken

        logger.disable("tuner_core")  # it logs to stderr, over whatever its host shows there
        payload = CallPayload(
            call_id=story.call_id,
            call_type="phone_call",
            start_timestamp=int(story.answered_wall),
            end_timestamp=int(story.ended_wall),
            recording_url="pending",
            duration_ms=round((story.ended_wall - story.answered_wall) * 1000),
            transcript_with_tool_calls=self._segments(story),
            general_meta_data_raw=GeneralMetaData(
                ai_models=AiModels(asr_model="stand-in", llm_model="stand-in", tts_model="espeak-ng"),
                usage_token=UsageToken(),
            ),
            disconnection_reason="agent_hangup" if story.hung_up_by_agent else "user_hangup",
            sip_call_id=None if self.no_agent_id else story.sip_call_id,
            sip_headers=None if self.no_agent_id or story.correlation_id is None else {"X-Correlation-Id": story.correlation_id},
        )
        config = TunerConfig(api_key=self.api_key, workspace_id=self.workspace_id, agent_id=self.agent_id, base_url=self.base_url)
        self.answers.append(await submit_call(payload, config))

    def _segments(self, story: Story) -> list[TranscriptSegment]:
        from tuner_core.models import TranscriptSegment

        heard = iter(self.recognised)
        found = []
        metadata: dict[str, Any]
        for line in story.lines:
            match line:
                case CallerLine(start, end):
                    role, text, metadata = "user", next(heard, "(unintelligible)"), {}
                case AgentLine(text=text):
                    role = "agent"
                    start, end, metadata = _spoken(line, story)
            start_ms, end_ms = (round((at - story.answered) * 1000) for at in (start, end))
            found.append(TranscriptSegment(role=role, text=text, start_ms=max(0, start_ms), end_ms=max(0, end_ms), metadata=metadata))
        return found


def _spoken(line: AgentLine, story: Story) -> tuple[Mono, Mono, dict[str, Any]]:
    """Start, end and metadata of what the agent said."""
    heard = spans(line.spoken.samples, level=line.spoken.clip.level)
    first, last = (heard[0].start, heard[-1].end) if heard else (0, 0)
    start, end = story.time_of(line.spoken.at + first), story.time_of(line.spoken.at + last)
    metadata: dict[str, Any] = {}
    if line.asked is not None:
        metadata["e2e_latency"] = round((start - line.asked - VAD_DELAY_S) * 1000)
    if line.spoken.cut_at is not None:
        metadata["interrupted"] = True
    return start, end, metadata
