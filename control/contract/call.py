"""The call object, as the API shows it and as it travels inside a forwarded report.

Times in turns, barge-ins and DTMF are milliseconds of call time: 0 is the 200 OK that answers the caller's INVITE leaving the sidecar.
Every other `…_ms` is a duration. Timestamps are RFC 3339 with offset.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from math import ceil
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["simulation", "production"]
Direction = Literal["inbound", "outbound"]
EndedBy = Literal["caller", "agent", "sidecar"]
Outcome = Literal["linked", "repaired", "conflict", "missing", "unlinked", "pending", "not_applicable"]
HopName = Literal["received", "carried", "echoed", "accepted"]
TurnKind = Literal["response", "overlap", "agent_interruption"]
BargeInKind = Literal["barge_in", "slow", "failed", "backchannel", "terminal_overlap"]


LEAST_FOR_P95 = 20


class Model(BaseModel):
    """Base of every contract model. Keys that a newer peer added are ignored, never fatal: the wire outlives a version."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True, ser_json_inf_nan="null")


class Timings(Model):
    """Milliseconds from the caller's INVITE arriving, except `auth` (spent on challenges) and `greeting` (200 OK to first agent speech)."""

    to_100: float | None = None
    to_ringing: float | None = None
    to_answer: float | None = None
    auth: float | None = None
    to_first_agent_rtp: float | None = None
    greeting: float | None = None


class Turn(Model):
    """One transfer of the floor from caller to agent."""

    n: int
    kind: TurnKind
    caller_start_ms: float
    caller_end_ms: float
    agent_start_ms: float
    agent_end_ms: float
    response_latency_ms: float
    """Start of the agent's speech minus end of the caller's speech. Negative when the agent began first (kind `overlap`)."""
    first_audio_ms: float | None = None
    """First agent sound of any kind after the caller's end, on the same scale as `response_latency_ms`."""
    interrupted: bool = False
    """The caller barged in on this agent utterance and the agent stopped."""
    uncertainty_ms: float = 20.0


class BargeIn(Model):
    """A caller utterance that began while the agent spoke."""

    kind: BargeInKind
    caller_start_ms: float
    agent_stop_ms: float | None = None
    latency_ms: float | None = None


class Percentiles(Model):
    """Always with n; `p95` is left out below n = 20."""

    n: int = 0
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    max: float | None = None

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Nearest-rank percentiles of any values, to a thousandth."""
        ordered = sorted(values)
        if not ordered:
            return cls()

        def at(share: float) -> float:
            return round(ordered[max(0, ceil(share * len(ordered)) - 1)], 3)

        p95 = at(0.95) if len(ordered) >= LEAST_FOR_P95 else None
        return cls(n=len(ordered), p50=at(0.5), p90=at(0.9), p95=p95, max=round(ordered[-1], 3))


class Speech(Model):
    """Sums over the answered call."""

    caller_ms: float = 0.0
    agent_ms: float = 0.0
    overlap_ms: float = 0.0
    silence_ms: float = 0.0
    talk_ratio: float | None = None
    """agent / (agent + caller); null when nobody spoke."""
    dead_air: int = 0
    """Silences longer than 3 s."""
    detector: str = "webrtc3"
    response_latency_ms: Percentiles = Field(default_factory=Percentiles)


class Dtmf(Model):
    """One RFC 4733 event."""

    digit: str
    start_ms: float
    duration_ms: float


class Bursts(Model):
    """How loss was spread, after RFC 3611 4.7.2: sixteen packets in a row that came end a burst, and a lone lost packet is none."""

    n: int = 0
    density_pct: float = 0.0
    """Share lost within the bursts."""
    mean_ms: float = 0.0
    gap_density_pct: float = 0.0
    """Share lost outside them."""


class LossInterval(Model):
    """Packets of five seconds that were to come, and those that never did."""

    start_ms: float
    duration_ms: float
    expected: int
    lost: int
    loss_pct: float


class Heard(Model):
    """What the other party says, in RTCP, of what reached it of a stream."""

    reports: int = 0
    lost: int = 0
    loss_pct: float = 0.0
    """The worst that one report said of its interval."""
    jitter_ms: float = 0.0


class Stream(Model):
    """What one party sent, as RFC 3550 counts it over all its SSRCs since the answer."""

    codec: str | None = None
    analysed: bool = False
    """False: the codec was relayed untouched but its audio was not looked at."""
    ssrcs: list[str] = Field(default_factory=list)
    packets: int = 0
    lost: int = 0
    loss_pct: float = 0.0
    duplicates: int = 0
    reordered: int = 0
    jitter_ms: float = 0.0
    mos_lq: float | None = None
    """ITU-T G.107 E-model from RTP alone: loss, burstiness, codec; no delay term."""
    mos_cq: float | None = None
    """The same with the delay; only where RTCP told the round trip on both legs."""
    late: int = 0
    """Packets that came too late to be heard, or beside the stream that is heard."""
    unsent_ms: float = 0.0
    """Time in which the party sent nothing: silence suppression, key presses, hold. No loss."""
    bursts: Bursts = Field(default_factory=Bursts)
    lossy_intervals: int = 0
    """Intervals of five seconds in which any packet was lost."""
    worst_interval: LossInterval | None = None
    heard: Heard | None = None
    """Null: the other party sent no report."""
    round_trip_ms: Percentiles = Field(default_factory=Percentiles)
    """From the sidecar to this party and back, from RTCP; the time that the party took to answer is taken off."""
    clock_ppm: float | None = None
    """By how much its RTP clock runs ahead of its own wall clock, from its sender reports."""
    dtmf: list[Dtmf] = Field(default_factory=list)


class RelayDelay(Model):
    """The sidecar's own delay, packet in to packet out."""

    p50_us: float | None = None
    p99_us: float | None = None


class Finding(Model):
    """Something that was not as it should be, and did not break the call."""

    name: str
    detail: str


RecordingFormat = Literal["wav", "ogg"]
"""Stereo WAV of 16 bits at 8 kHz, or the same as Opus in Ogg (RFC 7845)."""


class Recording(Model):
    """The call's audio as one file: stereo, the caller left and the agent right, position 0 at the answer."""

    format: RecordingFormat = "wav"
    seconds: float
    bytes: int
    sha256: str
    """Of the file."""
    cut: bool = False
    """The folder was full or the disk failed: the end is missing."""


class Capture(Model):
    """The RTP and RTCP of the call's audio as they were relayed, a part of the call's capture file.

    Each packet stands in it twice, as it came on one leg and as it left on the other, both times stamped with its arrival.
    """

    packets: int
    """That were relayed."""
    bytes: int
    sha256: str
    """Of the file as the sidecar wrote it."""
    cut: bool = False
    """The folder was full or the disk failed: the end is missing."""
    dropped: int = 0
    """Packets that were relayed while the sidecar was too busy to keep them."""
    decrypted: list[Literal["caller", "agent"]] = Field(default_factory=list)
    """Legs whose SRTP ended at the sidecar: their packets are in the file in the clear, not as they were on the wire. The others are as
    they were."""


class RecordingUpload(Model):
    """The recording's way to the evaluator, by the form that it gave with its answer to the report."""

    state: Literal["pending", "delivered", "refused"]
    detail: str
    delivery: int
    """Its id among the deliveries."""


class Media(Model):
    """Both directions, and what the sidecar itself did to them."""

    caller: Stream = Field(default_factory=Stream)
    agent: Stream = Field(default_factory=Stream)
    tap_dropped: int = 0
    """Packets that were relayed but that the analysis never saw."""
    refused: int = 0
    """Packets from a source that was neither negotiated nor latched."""
    relay_delay: RelayDelay = Field(default_factory=RelayDelay)
    findings: list[Finding] = Field(default_factory=list)
    """What a listener would have noticed, in words: `no_audio`, `one_way_audio`, `audio_stopped`, `only_silence`, `not_analysed`, `loss`,
    `foreign_source`, `tap_dropped`."""
    recording: Recording | None = None
    """Null where the call was not recorded."""
    capture: Capture | None = None
    """Null where its packets were not kept."""


class Hop(Model):
    """One piece of evidence that the identity was there."""

    hop: HopName
    at: datetime
    evidence: str


class Repair(Model):
    """How a report that lacked the link was linked all the same."""

    rule: str
    """Which rule matched: `a_leg_call_id`, `b_leg_call_id`, `correlation_id`, `platform_id`, `recipient`, `to_from_time`."""
    reported: str | None
    """The `sip_call_id` that the report carried, if any."""
    confidence: float
    """0–1, from the rule's row in the matching table."""


class Verdict(Model):
    """Where the identity is now, and what became of the link."""

    outcome: Outcome = "pending"
    hops: list[Hop] = Field(default_factory=list)
    repair: Repair | None = None
    findings: list[Finding] = Field(default_factory=list)
    candidates: list[str] = Field(default_factory=list)
    """For `conflict`: the calls that the report could belong to."""


class ReportedTurn(Model):
    """One segment of the agent's report beside the turn that it answered on the wire."""

    segment: int
    """Its index in the report's transcript."""
    turn: int
    """`n` of the turn."""
    start_difference_ms: float
    """Start of the agent's speech on the wire minus the segment's start, the offset of the two time bases taken off."""
    e2e_latency_ms: float | None
    """What the report says."""
    response_latency_ms: float
    """What the wire says."""
    difference_ms: float | None
    """Wire minus reported."""


class Reported(Model):
    """The agent's own latencies, beside the wire's."""

    response_latency_ms: list[float] = Field(default_factory=list)
    difference_ms: list[float] = Field(default_factory=list)
    """Wire minus reported, for the segments that could be matched in time."""
    difference: Percentiles = Field(default_factory=Percentiles)
    """Of the same."""
    offset_ms: float | None = None
    """Call time minus the report's own time, as the matched segments show it."""
    turns: list[ReportedTurn] = Field(default_factory=list)


class ClockOffset(Model):
    """How far two clocks are apart: control's minus the sidecar's, measured as NTP does (RFC 5905 section 8)."""

    offset_ms: float
    uncertainty_ms: float
    """Half the round trip of the best measurement: the true offset is no further away."""


class CallClock(ClockOffset):
    """The offset when the call began. `shifted`: the call's times were the sidecar's and are shown on control's clock, the offset added.

    An offset within its own uncertainty is not told from none, so nothing is shifted by it.
    """

    shifted: bool


class Call(Model):
    """One call with both its legs."""

    id: str
    sip_call_id: str
    b_leg_call_ids: list[str] = Field(default_factory=list)
    platform_ids: list[str] = Field(default_factory=list)
    kind: Kind = "production"
    direction: Direction = "inbound"
    route: str = ""
    platform: str = "generic"
    sidecar: str = ""
    source: str | None = None
    correlation_sha256: str | None = None
    """Hash of the correlation token; the token itself is never shown."""
    from_: str = Field(default="", alias="from")
    to: str = ""
    recipient: str | None = None
    wire_only: bool | None = None
    """Whether control may report this call by itself when its agent does not; null: `wire_only.enabled` of control decides."""
    agent_media: list[str] = Field(default_factory=list)
    """Where the agent's leg has its RTP now, as `host:port`: the agent's own address, then the one of ours that it sends to."""
    started_at: datetime
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    complete: bool = False
    """No further fact will come: the figures are final."""
    status: int | None = None
    ended_by: EndedBy | None = None
    reason: str | None = None
    """From a closed set, the same string in logs and metrics: see `sidecar.b2bua.outcome`."""
    cause: str | None = None
    """The reason in words, naming who refused what."""
    timings_ms: Timings = Field(default_factory=Timings)
    turns: list[Turn] = Field(default_factory=list)
    barge_ins: list[BargeIn] = Field(default_factory=list)
    speech: Speech = Field(default_factory=Speech)
    media: Media = Field(default_factory=Media)
    verdict: Verdict = Field(default_factory=Verdict)
    reported: Reported = Field(default_factory=Reported)
    recording_upload: RecordingUpload | None = None
    """Null where the evaluator gave no form for the recording, or its agent brings one of its own."""
    clock: CallClock | None = None
    """Null: the sidecar's clock was not measured when the call began, and its times are shown as it gave them."""

    def as_json(self) -> dict[str, object]:
        """The call as JSON-ready values under its public names."""
        return self.model_dump(mode="json", by_alias=True)
