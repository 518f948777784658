"""Putting the identity on an INVITE in the form that a platform lets through, and reading it back from what the application reports."""

from __future__ import annotations

import re
from typing import assert_never
from urllib.parse import quote, unquote_to_bytes

from sidecar.identity.findings import Finding
from sidecar.identity.inbound import is_call_id
from sidecar.identity.presets import CALL_ID_HEADER, CID_HEADER, Encoding, Preset

_ALNUM = re.compile(r"[A-Za-z0-9]+")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")


def carry(preset: Preset, call_id: str, correlation_id: str | None) -> list[tuple[str, str]]:
    """Headers for the INVITE towards a platform: `X-Sip-Call-Id` and `X-CID` always, the platform's aliases in its encoding.

    `X-Correlation-Id` is not among them: it crosses with the caller's other headers, verbatim.
    """
    headers = [(CALL_ID_HEADER, call_id), (CID_HEADER, call_id)]
    if preset.alias is not None:
        headers.append((preset.alias, encode(preset.encoding, call_id)))
    if preset.correlation_alias is not None and correlation_id:
        headers.append((preset.correlation_alias, _correlation(preset, correlation_id)))
    return headers


def reported_forms(preset: Preset, call_id: str, correlation_id: str | None) -> tuple[str, ...]:
    """Every text under which an application behind this platform may report the identity as it read it, without repeats."""
    forms = [value for _, value in carry(preset, call_id, correlation_id)] + ([correlation_id] if correlation_id else [])
    return tuple(dict.fromkeys(forms))


def shortfalls(preset: Preset, call_id: str) -> tuple[Finding, ...]:
    """Why this Call-ID will not reach the application, if so; empty when one of the headers carries it through."""
    if not preset.survives:
        return (Finding("carriage_none", f"{preset.name} hands no SIP header to the application"),)
    through = [(name, value) for name, value in carry(preset, call_id, None) if preset.passes(name)]
    fitting = [
        name for name, value in through if preset.max_bytes is None or len(f"{name}: {value}".encode(errors="replace")) <= preset.max_bytes
    ]
    if fitting:
        return ()
    return (
        Finding("carriage_too_long", f"{preset.name} drops header lines over {preset.max_bytes} bytes and the Call-ID makes longer ones"),
    )


def encode(encoding: Encoding, value: str) -> str:
    """`value` in an encoding; any text round-trips through `decode_as`."""
    match encoding:
        case "raw":
            return value
        case "percent":
            return quote(value, safe="", errors="surrogateescape")
        case "hex":
            return value.encode("utf-8", "surrogateescape").hex()
        case _ as never:
            assert_never(never)


def decode_as(encoding: Encoding, value: str) -> str:
    """The text behind an encoded value. Raises ValueError when it is not in that encoding."""
    match encoding:
        case "raw":
            return value
        case "percent":
            return unquote_to_bytes(value.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
        case "hex":
            if not _HEX.fullmatch(value):
                raise ValueError("not hex octets")
            return bytes.fromhex(value).decode("utf-8", "surrogateescape")
        case _ as never:
            assert_never(never)


def decode(preset: Preset, reported: str) -> str:
    """What an application reported as the call's id, out of the platform's encoding.

    A value that is not in that encoding (the application decoded it, or reported another id, such as a correlation token of hex digits)
    is given back as it came: only what decodes to a Call-ID is taken for an encoded one.
    """
    try:
        decoded = decode_as(preset.encoding, reported)
    except ValueError:
        return reported
    return decoded if is_call_id(decoded) else reported


def _correlation(preset: Preset, token: str) -> str:
    # Verbatim wherever the platform allows it: a token that is already letters and digits needs no decoding on the other side.
    if preset.alnum_only and _ALNUM.fullmatch(token):
        return token
    return encode(preset.encoding, token)
