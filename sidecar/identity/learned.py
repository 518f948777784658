"""Identifiers that an edge tells on the way: the names under which the platform, and so perhaps its agent, knows the call."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

from sidecar.sip.headers import Headers

_MAX = 256
_WHOLE = re.compile(r"\s*([!-~]+)\s*")
_BEFORE_PARAMS = re.compile(r"\s*([!-:<-~]+)\s*(?:;.*)?", re.DOTALL)
_ICID = re.compile(r'.*?\bicid-value\s*=\s*"?([^"\s;,]+).*', re.IGNORECASE | re.DOTALL)
# Header name → where in its value the id is, what it is called from there on (None: the name itself, without X-).
_TABLE: tuple[tuple[re.Pattern[str], re.Pattern[str], str | None], ...] = (
    (re.compile(r"x-twilio-callsid", re.IGNORECASE), _WHOLE, "twilio_call_sid"),
    (re.compile(r"x-cid", re.IGNORECASE), _WHOLE, "cid"),
    (re.compile(r"session-id", re.IGNORECASE), _BEFORE_PARAMS, "session_id"),  # RFC 7989
    (re.compile(r"p-charging-vector", re.IGNORECASE), _ICID, "icid"),  # RFC 7315 section 5.6
    (re.compile(r"x-(?:[a-z0-9]+-)*(?:call-?(?:id|sid|uuid|control-?id|leg-?id|session-?id)|uuid)", re.IGNORECASE), _WHOLE, None),
)

# Nearly all that a response has, and none of what the table looks for.
_NEVER = frozenset(("via", "from", "to", "call-id", "cseq", "contact", "content-type", "content-length", "record-route", "allow", "server"))

_IN_REFER_TO = re.compile(r"[?&]Replaces=([^&>\s]+)", re.IGNORECASE)


def learned(headers: Headers) -> Iterator[tuple[str, str]]:
    """(name, value) of each identifier in a response to the INVITE, each pair once.

    Values of more than 256 characters and values that are no plain token are left out.
    """
    seen: set[tuple[str, str]] = set()
    for key, header, value in headers.lines():
        if key in _NEVER:
            continue
        row = next((row for row in _TABLE if row[0].fullmatch(header)), None)
        found = row[1].fullmatch(value) if row else None
        if row is None or found is None or len(found[1]) > _MAX:
            continue
        pair = (row[2] or header.lower().removeprefix("x-").replace("-", "_"), found[1])
        if pair not in seen:
            seen.add(pair)
            yield pair


def replaced(headers: Headers) -> Iterator[tuple[str, str]]:
    """("replaces", Call-ID) of each dialog that a request says is to be replaced, each once.

    Replaces stands in an INVITE (RFC 3891 section 6.1), or escaped in the URI of a Refer-To (RFC 3515): after an attended transfer the
    agent may know its call by the dialog that it gave away.
    """
    values = [value.split(";", 1)[0].strip() for value in headers.all("Replaces")]
    for value in headers.all("Refer-To"):
        values += [unquote(found).split(";", 1)[0].strip() for found in _IN_REFER_TO.findall(value)]
    for call_id in dict.fromkeys(values):
        if call_id and len(call_id) <= _MAX and _WHOLE.fullmatch(call_id):
            yield "replaces", call_id
