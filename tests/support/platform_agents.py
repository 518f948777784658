"""What agents' code reads behind each platform: through the evaluator's published helpers where there are such, else the plain field.

The packages are imported when they are needed: some bring a whole framework with them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from sidecar.lab.platforms import dialin_settings


@dataclass(frozen=True)
class Seen:
    """What goes into the agent's report."""

    sip_call_id: str | None = None
    sip_headers: dict[str, str] = field(default_factory=dict)
    caller: str | None = None
    recipient: str | None = None


View = Mapping[str, Any]
Reader = Callable[[View], Seen]


@contextmanager
def imports_of_others() -> Iterator[None]:
    """Their packages warn when they are imported; that is theirs to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def core(provider: str) -> Reader:
    """tuner-core's helper for a carrier's payload."""

    def read(view: View) -> Seen:
        with imports_of_others():
            from tuner_core.telephony import extract_sip
        info = extract_sip(dict(view), provider=provider)
        return Seen(info.sip_call_id, dict(info.sip_headers), recipient=info.recipient)

    return read


def pipecat(
    provider: str, payload: Callable[[View], View] = lambda view: view, caller: Callable[[View], str | None] = lambda _: None
) -> Reader:
    """tuner-pipecat-sdk's helper. `payload` is what its user's server hands it of the platform's view."""

    def read(view: View) -> Seen:
        with imports_of_others():
            from tuner_pipecat_sdk.telephony import extract_sip
        info = extract_sip(dict(payload(view)), provider=provider)
        return Seen(info.sip_call_id, dict(info.sip_headers), caller(view), info.recipient)

    return read


def livekit(view: View) -> Seen:
    """What tuner-livekit-sdk's plugin takes from the SIP participant's attributes."""
    with imports_of_others():
        from tuner.collector import SessionState
        from tuner.plugin import TunerPlugin

        state = SessionState(start_timestamp=0.0)
    TunerPlugin._capture_sip_participant(SimpleNamespace(_state=state), SimpleNamespace(attributes=dict(view)))
    headers = {"X-Correlation-Id": state.correlation_id} if state.correlation_id else {}
    return Seen(state.sip_call_id, headers, state.caller_phone_number)


def media_stream(view: View) -> Seen:
    """Twilio's form is forwarded in TwiML, and read again from the stream's first frame."""
    from sidecar.lab.platforms import twilio_stream

    with imports_of_others():
        from tuner_core.telephony import extract_sip, forward_to_websocket
    forward = forward_to_websocket(extract_sip(dict(view), provider="twilio"), ws_url="wss://agent.example/ws")
    return core("twilio")(twilio_stream(view, forward.parameters))


def bare_media_stream(view: View) -> Seen:
    """The same by someone who forwards nothing."""
    from sidecar.lab.platforms import twilio_stream

    return core("twilio")(twilio_stream(view, {}))


def from_list(*path: str) -> Reader:
    """The first of our headers in a list of `{name, value}`."""

    def read(view: View) -> Seen:
        found: Any = view
        for key in path:
            found = found[key]
        headers = {item["name"]: item["value"] for item in reversed(found)}
        return Seen(headers.get("X-Sip-Call-Id"), {"X-Correlation-Id": headers["X-Correlation-Id"]})

    return read


def at(*path: str, number: tuple[str, ...] = ()) -> Reader:
    """One plain field for the Call-ID, and one for the caller's number."""

    def fetch(view: View, keys: tuple[str, ...]) -> str | None:
        found: Any = view
        for key in keys:
            found = found.get(key, {})
        return found or None

    return lambda view: Seen(fetch(view, path), caller=fetch(view, number) if number else None)


def plivo_stream(view: View) -> View:
    """Plivo's answer URL hands its `X-PH-` parameters on to the stream, whose first frame a server passes to the helper."""
    return {"call_id": view["CallUUID"], "extra_headers": {name: value for name, value in view.items() if name.startswith("X-PH-")}}


def exotel_call_data(view: View) -> View:
    """Pipecat's digest of Exotel's first frame."""
    start = view["start"]
    return {
        "stream_id": start["stream_sid"],
        "call_id": start["call_sid"],
        "from": start["from"],
        "custom_parameters": start["custom_parameters"],
    }


READERS: dict[str, Reader] = {
    "twilio": core("twilio"),
    "twilio-pstn": core("twilio"),
    "telnyx": core("telnyx"),
    "livekit": livekit,
    "vapi": at("assistantOverrides", "variableValues", "sip_call_id"),
    "retell": at("call", "custom_sip_headers", "Sip-Call-Id", number=("call", "from_number")),
    "daily": pipecat("daily", dialin_settings),
    "jambonz": pipecat("jambonz"),
    "plivo": pipecat("plivo", plivo_stream),
    "exotel": pipecat("exotel", exotel_call_data, lambda view: view["start"]["from"]),
    "vonage": at("SipHeader_X-Sip-Call-Id", number=("from",)),
    "signalwire": from_list("call", "headers"),
    "freeswitch": at("sip_call_id", number=("caller_id_number",)),
    "asterisk": at("CHANNEL(pjsip,call-id)"),
    "openai": from_list("data", "sip_headers"),
    "generic": at("headers", "X-Sip-Call-Id"),
}
"""One agent behind each platform."""


def create_call(seen: Seen, call_id: str, started: float, ended: float) -> dict[str, Any]:
    """The report of a call that lasted from `started` to `ended` (epoch seconds), as tuner-core's model writes it."""
    with imports_of_others():
        from tuner_core.models import AiModels, CallPayload, GeneralMetaData, TranscriptSegment, UsageToken
    payload = CallPayload(
        call_id=call_id,
        call_type="phone_call",
        start_timestamp=int(started),
        end_timestamp=int(ended),
        recording_url="pending",
        duration_ms=round((ended - started) * 1000),
        transcript_with_tool_calls=[TranscriptSegment(role="agent", text="hello", start_ms=200, end_ms=900)],
        general_meta_data_raw=GeneralMetaData(ai_models=AiModels(), usage_token=UsageToken()),
        sip_call_id=seen.sip_call_id,
        sip_headers=seen.sip_headers or None,
        recipient=seen.recipient,
    )
    report: dict[str, Any] = payload.to_dict()
    if seen.caller is not None:
        report["caller_phone_number"] = seen.caller  # this client's model has no such key; other clients' have
    return report
