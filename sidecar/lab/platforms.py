"""Stand-ins for the platforms between a SIP edge and a voice agent: what of an INVITE the application behind each of them gets to see.

Each view takes the INVITE that arrived at the platform's edge and `own`, the platform's own name for the call (a CallSid, say). It answers
with what the platform hands the application, in the platform's shape and with its losses: filtered names, stripped prefixes, lost lines,
folded case, replaced Call-IDs. Nothing is added that the platform would not show.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal

from sidecar.sip.headers import key_of
from sidecar.sip.message import Request
from sidecar.sip.uri import SipUri

View = Callable[[Request, str], dict[str, Any]]
Pairs = list[tuple[str, str]]

LONGEST_LINE = 1024
"""Octets of a header line; Twilio and Retell lose longer ones."""
ACCOUNT = "AC00000000000000000000000000000000"
_STANDARD = frozenset(
    {
        *("via", "max-forwards", "from", "to", "call-id", "cseq", "contact", "content-type", "content-length", "allow", "supported"),
        *("require", "route", "record-route", "user-agent", "session-expires", "min-se", "accept", "p-asserted-identity"),
        *("authorization", "proxy-authorization"),
    }
)
_SECRET = frozenset({"authorization", "proxy-authorization"})
_ALNUM = re.compile(r"[A-Za-z0-9]+")


# -- what a header must look like to come through ----------------------------------------------------------------------------------------


def x_headers(invite: Request, *, longest: int | None = None) -> Pairs:
    """Headers whose names begin with `X-`, in any case, as sent and in order; without lines over `longest` octets."""
    found = [(name, value) for name, value in invite.headers.items() if name.lower().startswith("x-")]
    return [(name, value) for name, value in found if longest is None or len(f"{name}: {value}".encode(errors="replace")) <= longest]


def custom_headers(invite: Request) -> Pairs:
    """Every header that the SIP standards do not define for an INVITE."""
    return [(name, value) for name, value in invite.headers.items() if key_of(name) not in _STANDARD]


def user(uri: str) -> str:
    """The user part, where telephony platforms put a number."""
    return SipUri.parse(uri).user or ""


def listed(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Headers as a list of `{name, value}`, repetitions included."""
    return [{"name": name, "value": value} for name, value in pairs]


def _bare(name: str) -> str:
    return name[2:]  # X-Foo or x-foo: Foo


# -- the platforms -----------------------------------------------------------------------------------------------------------------------


def twilio(invite: Request, own: str) -> dict[str, Any]:
    """The voice webhook's form of a SIP domain: `SipCallId`, and each `X-` header but Twilio's own as `SipHeader_X-Name`."""
    form = _twilio_form(own, invite.from_.uri, invite.uri) | {"SipCallId": invite.call_id, "SipDomain": SipUri.parse(invite.uri).host}
    for name, value in x_headers(invite, longest=LONGEST_LINE):
        if not name.lower().startswith("x-twilio"):
            form[f"SipHeader_{name}"] = value
    if (uui := invite.headers.get("User-to-User")) is not None:
        form["SipHeader_User-to-User"] = uui
    return form


def twilio_pstn(invite: Request, own: str) -> dict[str, Any]:
    """The same webhook of a call to a telephone number: the network between carries numbers and nothing else."""
    return _twilio_form(own, user(invite.from_.uri), user(invite.uri))


def _twilio_form(own: str, caller: str, called: str) -> dict[str, Any]:
    parties = {"From": caller, "Caller": caller, "To": called, "Called": called}
    return {"CallSid": own, "AccountSid": ACCOUNT, "ApiVersion": "2010-04-01", "Direction": "inbound", "CallStatus": "ringing", **parties}


def twilio_stream(form: Mapping[str, Any], parameters: Mapping[str, str]) -> dict[str, Any]:
    """The first frame of a Media Stream. Of the webhook it has the CallSid alone; `parameters` are what the TwiML handed on."""
    stream = f"MZ{form['CallSid'][2:]}"
    start = {
        "accountSid": form["AccountSid"],
        "callSid": form["CallSid"],
        "streamSid": stream,
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": dict(parameters),
    }
    return {"event": "start", "sequenceNumber": "1", "start": start, "streamSid": stream}


def telnyx(invite: Request, own: str, *, shows_call_id: bool = False) -> dict[str, Any]:
    """The Call Control event: `X-` headers as sent, as a list. `shows_call_id`: this is one of the payloads with `sip_call_id`."""
    payload: dict[str, Any] = {
        "call_control_id": own,
        "call_leg_id": f"{own}-leg",
        "call_session_id": f"{own}-session",
        "connection_id": "1494404757140276705",
        "custom_headers": listed(x_headers(invite)),
        "direction": "incoming",
        "from": user(invite.from_.uri),
        "to": user(invite.uri),
        "state": "parked",
    }
    if shows_call_id:
        payload["sip_call_id"] = invite.call_id
    return {"data": {"record_type": "event", "event_type": "call.initiated", "id": f"{own}-event", "payload": payload}}


def livekit(
    invite: Request,
    own: str,
    *,
    include: Literal["none", "x", "all"] = "x",
    headers_to_attributes: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """The SIP participant's attributes. `include` is the inbound trunk's `include_headers`, which is "none" unless someone sets it.

    Names are folded to lower case, so of a repeated header the last one is left.
    """
    attributes = {
        "sip.callID": own,
        "sip.callIDFull": invite.call_id,
        "sip.callStatus": "active",
        "sip.phoneNumber": user(invite.from_.uri),
        "sip.trunkPhoneNumber": user(invite.uri),
    }
    shown = {"none": [], "x": x_headers(invite), "all": list(invite.headers.items())}[include]
    attributes |= {f"sip.h.{name.lower()}": value for name, value in shown}
    for name, attribute in headers_to_attributes.items():
        if values := invite.headers.all(name):
            attributes[attribute] = values[-1]
    return attributes


def vapi(invite: Request, own: str) -> dict[str, Any]:
    """The call object: `X-` headers became variables without the prefix; its SBC's names for the call hold our Call-ID."""
    variables = {_bare(name): value for name, value in x_headers(invite)}
    return {
        "id": own,
        "type": "inboundPhoneCall",
        "cid": invite.call_id,
        "transport": {"provider": "vapi.sip", "sbcCallSid": invite.call_id},
        "phoneCallProviderDetails": {"sbcCallId": invite.call_id},
        "customer": {"sipUri": invite.from_.uri},
        "assistantOverrides": {"variableValues": variables},
    }


def retell(invite: Request, own: str) -> dict[str, Any]:
    """The webhook's call: `X-` headers without the prefix, but for lines that are too long."""
    headers = {_bare(name): value for name, value in x_headers(invite, longest=LONGEST_LINE)}
    numbers = {"from_number": user(invite.from_.uri), "to_number": user(invite.uri)}
    return {
        "event": "call_started",
        "call": {"call_id": own, "call_type": "phone_call", "direction": "inbound", **numbers, "custom_sip_headers": headers},
    }


def daily(invite: Request, own: str) -> dict[str, Any]:
    """The dial-in webhook. `callId` is the platform's own."""
    numbers = {"From": user(invite.from_.uri), "To": user(invite.uri)}
    return {**numbers, "callId": own, "callDomain": "00000000-0000-4000-8000-000000000000", "sipHeaders": dict(custom_headers(invite))}


def dialin_settings(webhook: Mapping[str, Any]) -> dict[str, Any]:
    """What a bot gets of Daily's webhook from its runner."""
    numbers = {"from": webhook["From"], "to": webhook["To"]}
    return {"call_id": webhook["callId"], "call_domain": webhook["callDomain"], **numbers, "sip_headers": dict(webhook["sipHeaders"])}


def jambonz(invite: Request, own: str) -> dict[str, Any]:
    """The call hook. The SBC made a Call-ID of its own and put the one it received into X-CID; standard names are in lower case."""
    replaced = f"{own}-sbc"
    headers = {key_of(name) if key_of(name) in _STANDARD else name: value for name, value in invite.headers.items()}
    headers = {name: value for name, value in headers.items() if name.lower() not in _SECRET | {"x-cid"}}
    headers |= {"call-id": replaced, "X-CID": invite.call_id}
    return {
        "call_sid": own,
        "account_sid": ACCOUNT,
        "direction": "inbound",
        "from": user(invite.from_.uri),
        "to": user(invite.uri),
        "call_id": replaced,
        "sbc_callid": invite.call_id,
        "sip": {"method": "INVITE", "uri": invite.uri, "headers": headers},
    }


def plivo(invite: Request, own: str) -> dict[str, Any]:
    """The parameters of the answer URL: `X-PH-` headers of letters and digits whose values are the same."""
    numbers = {"From": user(invite.from_.uri), "To": user(invite.uri)}
    passing = {
        name: value
        for name, value in invite.headers.items()
        if name.upper().startswith("X-PH-") and _ALNUM.fullmatch(name[5:]) and _ALNUM.fullmatch(value)
    }
    return {"CallUUID": own, "Direction": "inbound", "CallStatus": "ringing", "Event": "StartApp", **numbers, **passing}


def exotel(invite: Request, own: str) -> dict[str, Any]:
    """The first frame on the WebSocket: numbers and the platform's CallSid."""
    stream = f"{own}-stream"
    numbers = {"from": user(invite.from_.uri), "to": user(invite.uri)}
    start = {"stream_sid": stream, "call_sid": own, "account_sid": "exotel", **numbers, "custom_parameters": {}}
    return {"event": "start", "sequence_number": 1, "stream_sid": stream, "start": start}


def vonage(invite: Request, own: str) -> dict[str, Any]:
    """The answer webhook: `X-` headers as `SipHeader_X-Name`."""
    numbers = {"from": user(invite.from_.uri), "to": user(invite.uri)}
    return {"uuid": own, "conversation_uuid": f"CON-{own}", **numbers, **{f"SipHeader_{n}": value for n, value in x_headers(invite)}}


def signalwire(invite: Request, own: str) -> dict[str, Any]:
    """The request for call instructions: `X-` headers as a list."""
    parties = {"from": invite.from_.uri, "to": invite.uri}
    return {"call": {"call_id": own, "direction": "inbound", "type": "sip", **parties, "headers": listed(x_headers(invite))}}


def freeswitch(invite: Request, own: str) -> dict[str, Any]:
    """Channel variables: `X-` headers as `sip_h_X-Name`, and the Call-ID."""
    numbers = {"caller_id_number": user(invite.from_.uri), "destination_number": user(invite.uri)}
    return {"uuid": own, "sip_call_id": invite.call_id, **numbers, **{f"sip_h_{name}": value for name, value in x_headers(invite)}}


def asterisk(invite: Request, own: str) -> dict[str, Any]:
    """What dialplan functions answer: any header, the first of several, and the Call-ID."""
    functions = {
        "UNIQUEID": own,
        "CALLERID(num)": user(invite.from_.uri),
        "EXTEN": user(invite.uri),
        "CHANNEL(pjsip,call-id)": invite.call_id,
    }
    for name, value in invite.headers.items():
        functions.setdefault(f"PJSIP_HEADER(read,{name})", value)
    return functions


def openai(invite: Request, own: str) -> dict[str, Any]:
    """The incoming-call webhook: all headers but credentials, in order. `call_id` is the platform's own."""
    headers = [(name, value) for name, value in invite.headers.items() if name.lower() not in _SECRET]
    return {"object": "event", "type": "realtime.call.incoming", "data": {"call_id": own, "sip_headers": listed(headers)}}


def generic(invite: Request, own: str) -> dict[str, Any]:
    """An edge that hands everything on as it came."""
    return {"id": own, "headers": dict(invite.headers.items())}


PLATFORMS: Mapping[str, View] = MappingProxyType(
    {
        "twilio": twilio,
        "twilio-pstn": twilio_pstn,
        "telnyx": telnyx,
        "livekit": livekit,
        "vapi": vapi,
        "retell": retell,
        "daily": daily,
        "jambonz": jambonz,
        "plivo": plivo,
        "exotel": exotel,
        "vonage": vonage,
        "signalwire": signalwire,
        "freeswitch": freeswitch,
        "asterisk": asterisk,
        "openai": openai,
        "generic": generic,
    }
)
"""A view for each shipped carriage preset, under the preset's name."""
