"""What a report says about itself: read leniently, because refusing a report over a field that is not ours would lose it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from control.contract.fold import correlation_hash

_SECONDS_BELOW = 1e10
"""Epoch values under this are seconds, others milliseconds (the evaluator's own rule)."""
_MOST_IDS = 256
_SHORTEST_ID = 6
_DEEPEST = 6
_LONGEST_PLACE = 100
_LONGEST_NUMBER = 300
_NAMELESS = re.compile(r"(?:anonymous|restricted|unavailable|unknown|private|withheld)(?:@.*)?|.*@anonymous\.invalid")
"""A caller that tells nobody who it is (RFC 3323 section 4.1.1.3, and what platforms write): any two such calls have it in common."""
_CORRELATION = "x-correlation-id"
_CALLER_HEADERS, _CALLEE_HEADERS = ("from",), ("to",)


class Unreadable(Exception):
    """The body is no report: `problem` says why, in words for whoever sent it."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Claim:
    """The parts of a report that matching and delivery need. Times are epoch milliseconds."""

    provider_call_id: str
    sip_call_id: str | None = None
    correlation_sha256: str | None = None
    ids: frozenset[str] = frozenset()
    """Every other value that may be an identifier of the call, also decoded from percent and hex forms."""
    places: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Under which key of the report each of them stands, as in `metadata.transport.id`."""
    recipient: str | None = None
    caller: str | None = None
    """`party` form of the calling side."""
    callee: str | None = None
    """`party` form of the called side."""
    start_ms: int | None = None
    end_ms: int | None = None
    wants_upload: bool = False
    """The sender asked for a presigned upload target."""


def party(uri: str | None) -> str | None:
    """A caller or callee in comparable form: digits of a telephone number with its `+` dropped, else lower-case `user@host`.

    Takes name-addr and addr-spec forms (RFC 3261 section 25.1), `tel:` URIs and bare numbers; None when nothing is left, and for a party
    that withholds its name.
    """
    if not uri:
        return None
    uri = re.sub(r'^\s*"(?:\\.|[^"\\])*"', "", uri)
    if "<" in uri and ">" in uri:
        uri = uri[uri.index("<") + 1 : uri.rindex(">")]
    uri = re.sub(r"^(sips?|tel):", "", uri.strip(), flags=re.IGNORECASE)
    address = re.split(r"[;?]", uri, maxsplit=1)[0].strip()
    user, _, host = address.rpartition("@")
    number = re.sub(r"[\s().-]", "", unquote(user or address))
    if re.fullmatch(r"\+?\d{3,}", number):
        return number.removeprefix("+")
    host = re.sub(r":\d+$", "", host)
    named = f"{user}@{host}".lower() if user else address.lower()
    return named if named and not _NAMELESS.fullmatch(named) else None


def variants(value: str) -> set[str]:
    """`value` and what it may be a percent or hex encoding of: platforms that allow few characters carry a Call-ID so."""
    found = {value}
    if "%" in value:
        found.add(unquote(value))
    if len(value) >= 2 * _SHORTEST_ID and len(value) % 2 == 0 and re.fullmatch(r"[0-9a-fA-F]+", value):
        plain = bytes.fromhex(value)
        if all(0x21 <= byte <= 0x7E for byte in plain):
            found.add(plain.decode("ascii"))
    return found


def codec(body: bytes) -> str:
    """In which encoding a JSON body is written, as parsers find it out; a byte order mark stays the first character of the text."""
    found: str = json.detect_encoding(body)
    if found in ("utf-16", "utf-32"):
        found += "-le" if body.startswith(b"\xff") else "-be"
    return found.removesuffix("-sig")


def read_json(body: bytes) -> Any:
    """The value of a JSON body, as leniently as it can be told: control characters in texts, numbers of any length. Raises ValueError."""
    try:
        text = body.decode(codec(body), "surrogatepass").removeprefix("\ufeff")
        return json.loads(text, strict=False, parse_int=_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _number(digits: str) -> int | float:
    # Longer ones are refused by int() past some thousand digits, and nothing that is read here is so large.
    return int(digits) if len(digits) <= _LONGEST_NUMBER else float(digits)


def read_claim(body: bytes) -> Claim:
    """The claim of a Create Call body. Raises Unreadable when it is no JSON object or has no usable `call_id`."""
    try:
        report = read_json(body)
    except ValueError:
        raise Unreadable("the body is not JSON") from None
    if not isinstance(report, dict):
        raise Unreadable("the body is not a JSON object")
    said = report.get("call_id")
    call_id = _text(str(said) if isinstance(said, int) and not isinstance(said, bool) else said)
    if call_id is None or len(call_id) > 200:
        raise Unreadable("call_id must be a string of 1 to 200 characters")
    headers = _headers(report.get("sip_headers"))
    token = next((value for name, value in headers.items() if name.removeprefix("sipheader_") == _CORRELATION), None)
    recipient = _text(report.get("recipient"))
    places = _identifiers(report, headers)
    return Claim(
        provider_call_id=call_id,
        sip_call_id=_text(report.get("sip_call_id")),
        correlation_sha256=correlation_hash(token) if token else None,
        ids=frozenset(places),
        places=places,
        recipient=recipient,
        caller=party(_text(report.get("caller_phone_number")) or _first(headers, _CALLER_HEADERS)),
        callee=party(recipient or _first(headers, _CALLEE_HEADERS)),
        start_ms=epoch_ms(report.get("start_timestamp")),
        end_ms=epoch_ms(report.get("end_timestamp")),
        wants_upload=bool(_text(report.get("recording_file_extension"))),
    )


def epoch_ms(value: object) -> int | None:
    """Epoch milliseconds of a timestamp in seconds or milliseconds, or None when it is neither."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e15:
        return None
    return int(value * 1000) if value < _SECONDS_BELOW else int(value)


def _text(value: object) -> str | None:
    """A non-empty string. JSON can escape lone surrogates, which neither a hash nor a database takes."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) and value else None


def _headers(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    texts = {name.lower(): _text(content) for name, content in value.items()}
    return {name: content for name, content in texts.items() if content is not None}


def _first(headers: dict[str, str], names: tuple[str, ...]) -> str | None:
    return next((headers[name] for name in names if name in headers), None)


def _identifiers(report: dict[str, object], headers: dict[str, str]) -> dict[str, str]:
    """Strings that a platform may have put an identifier in, with their places: the call_id, all headers, and what free-form objects hold
    at any depth."""
    values: list[tuple[str, object]] = [(name, report.get(name)) for name in ("call_id", "sip_call_id")]
    values += [(f"sip_headers.{name}", value) for name, value in headers.items()]
    for key in ("general_meta_data_raw", "metadata", "collected_dynamic_variables"):
        values += _leaves(key, report.get(key))
    texts = [(place, text) for place, value in values if (text := _text(value)) is not None and _SHORTEST_ID <= len(text) <= 512]
    found: dict[str, str] = {}
    for place, text in texts[:_MOST_IDS]:
        for form in variants(text):
            found.setdefault(form, place)
    return found


def _leaves(key: str, value: object) -> Iterator[tuple[str, str]]:
    """The texts in an object and in what it nests, the outer ones first: agents hand on a platform's own payload as they got it."""
    level: list[tuple[str, object]] = [(key, value)]
    for _ in range(_DEEPEST):
        inner = [(f"{place}.{name}"[:_LONGEST_PLACE], each) for place, part in level for name, each in _members(part)]
        yield from ((place, each) for place, each in inner if isinstance(each, str))
        level = inner


def _members(value: object) -> Iterable[tuple[object, object]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()
