"""How a call's identity survives each platform: one table.

A preset says which headers an INVITE must carry so that the application behind the platform can read the caller's Call-ID, how the value
must be written, and under which key it appears there. `X-Sip-Call-Id` and `X-CID` go on every INVITE; a preset adds an alias where the
platform lets neither of them through in a usable form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Encoding = Literal["raw", "percent", "hex"]
ENCODINGS: tuple[Encoding, ...] = ("raw", "percent", "hex")
CALL_ID_HEADER, CID_HEADER, CORRELATION_HEADER = "X-Sip-Call-Id", "X-CID", "X-Correlation-Id"

_NAME = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")
_ALNUM = re.compile(r"[A-Za-z0-9]+")
_PRESET_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class PresetError(ValueError):
    """A preset that contradicts itself. The text names the preset and what to mend."""


@dataclass(frozen=True, slots=True)
class Preset:
    """One platform. Key templates may use `{name}` (the header as sent), `{lower}` and `{bare}` (without `strips`)."""

    name: str
    seen_as: tuple[str, ...] = ()
    """Templates of the keys under which the application finds a header that came through."""
    native: tuple[str, ...] = ()
    """Keys under which the platform itself shows the Call-ID of the leg that it received."""
    alias: str | None = None
    """A further header for the Call-ID."""
    correlation_alias: str | None = None
    """A further header for the correlation token, where `X-Correlation-Id` does not come through."""
    encoding: Encoding = "raw"
    """Of the aliases. The common headers are always raw."""
    prefix: str = ""
    """Only headers that begin so come through, in any case of letters."""
    barred: tuple[str, ...] = ()
    """Headers that begin so do not."""
    strips: str = ""
    """What the platform takes off the front of a name."""
    alnum_only: bool = False
    """Name (behind `prefix`) and value may hold only letters and digits."""
    max_bytes: int | None = None
    """Longest header line that comes through, name and separator included."""
    survives: bool = True
    """False: no header reaches the application; the report is linked by numbers and time."""
    inferred: bool = False
    """True: concluded from like platforms, not read in the vendor's documents."""
    note: str = ""
    """What a person must configure, or know."""

    def __post_init__(self) -> None:
        if not _PRESET_NAME.fullmatch(self.name):
            raise PresetError(f"preset name {self.name!r}: use lower-case letters, digits, - and _")
        if self.encoding not in ENCODINGS:
            raise PresetError(f"preset {self.name}: encoding {self.encoding!r} is none of {', '.join(ENCODINGS)}")
        for header in (self.alias, self.correlation_alias):
            if header is not None:
                self._check_alias(header)
        if self.alias is not None and self.alnum_only and self.encoding != "hex":
            raise PresetError(f"preset {self.name}: only letters and digits come through, so the encoding must be hex")
        if self.survives and not any(self.passes(header) for header in self.headers):
            raise PresetError(f"preset {self.name}: no header that carries the Call-ID begins with {self.prefix!r}; set an alias that does")
        if self.survives and not self.seen_as:
            raise PresetError(f"preset {self.name}: say under which key the application sees a header (seen_as)")
        if self.max_bytes is not None and self.max_bytes < 64:
            raise PresetError(f"preset {self.name}: max_bytes {self.max_bytes} leaves no room for a Call-ID")
        for template in self.seen_as:
            self._check_template(template)

    @property
    def headers(self) -> tuple[str, ...]:
        """Every header that carries the Call-ID towards this platform."""
        return (CALL_ID_HEADER, CID_HEADER, *((self.alias,) if self.alias else ()))

    def passes(self, header: str) -> bool:
        """Whether a header of this name reaches the application."""
        lower = header.lower()
        if not self.survives or not lower.startswith(self.prefix.lower()) or any(lower.startswith(start.lower()) for start in self.barred):
            return False
        return not self.alnum_only or _ALNUM.fullmatch(header[len(self.prefix) :]) is not None

    def keys(self, header: str) -> tuple[str, ...]:
        """The keys under which the application sees this header; empty when it does not come through."""
        if not self.passes(header):
            return ()
        bare = header[len(self.strips) :] if self.strips and header.lower().startswith(self.strips.lower()) else header
        return tuple(template.format(name=header, lower=header.lower(), bare=bare) for template in self.seen_as)

    def _check_alias(self, header: str) -> None:
        if not _NAME.fullmatch(header):
            raise PresetError(f"preset {self.name}: {header!r} is not a header name")
        if header.lower() in (name.lower() for name in (CALL_ID_HEADER, CID_HEADER, CORRELATION_HEADER)):
            raise PresetError(f"preset {self.name}: {header} is carried in any case and is no alias")
        if not self.passes(header):
            raise PresetError(f"preset {self.name}: alias {header} would not come through by the preset's own rules")

    def _check_template(self, template: str) -> None:
        try:
            template.format(name="", lower="", bare="")
        except (KeyError, IndexError, ValueError) as error:
            raise PresetError(f"preset {self.name}: key template {template!r} may use {{name}}, {{lower}} and {{bare}} only") from error


_TABLE = (
    Preset("generic", seen_as=("{name}",), note="Any header comes through as it was sent."),
    Preset(
        "twilio",
        prefix="X-",
        barred=("X-Twilio",),
        max_bytes=1024,
        seen_as=("SipHeader_{name}",),
        native=("SipCallId",),
        note="SIP domain. Media Streams sees nothing of it unless the TwiML hands it on as a <Parameter> (start.customParameters).",
    ),
    Preset("twilio-pstn", survives=False, note="By telephone number nothing survives: the report is linked by caller number and time."),
    Preset(
        "telnyx",
        prefix="X-",
        seen_as=("data.payload.custom_headers[{name}]",),
        native=("data.payload.sip_call_id",),
        note="Call Control. Names arrive as sent; sip_call_id is in some payloads only.",
    ),
    Preset(
        "livekit",
        prefix="X-",
        seen_as=("sip.h.{lower}",),
        native=("sip.callIDFull",),
        note="The inbound trunk must include_headers or map them with headers_to_attributes; of a repeated header the last one counts.",
    ),
    Preset(
        "vapi",
        prefix="X-",
        strips="X-",
        alias="X-sip_call_id",
        seen_as=("{bare}",),
        native=("cid", "transport.sbcCallSid", "phoneCallProviderDetails.sbcCallId"),
        note="Headers become variables without X-; the correlation token may come back as sip_call_id.",
    ),
    Preset("retell", prefix="X-", strips="X-", max_bytes=1024, seen_as=("call.custom_sip_headers[{bare}]",)),
    Preset(
        "daily",
        seen_as=("sipHeaders[{name}]", "dialin_settings.sip_headers[{name}]"),
        note="The callId in the webhook is the platform's own.",
    ),
    Preset(
        "jambonz",
        seen_as=("sip.headers[{name}]",),
        native=("sbc_callid", "sip.headers[X-CID]"),
        note="Its SBC sets a new Call-ID and copies the one it received to X-CID.",
    ),
    Preset(
        "plivo",
        prefix="X-PH-",
        alias="X-PH-Sipcallid",
        correlation_alias="X-PH-Correlationid",
        encoding="hex",
        alnum_only=True,
        seen_as=("{name}",),
        note="Parameters of answer_url. Only X-PH- headers of letters and digits, hence hex.",
    ),
    Preset(
        "exotel",
        survives=False,
        native=(),
        note="The WebSocket shows the platform's CallSid alone; put the sidecar's address on the IP allow-list.",
    ),
    Preset("vonage", prefix="X-", seen_as=("SipHeader_{name}",), inferred=True, note="On the answer webhook."),
    Preset("signalwire", prefix="X-", seen_as=("call.headers[{name}]",), inferred=True),
    Preset(
        "freeswitch",
        prefix="X-",
        seen_as=("sip_h_{name}",),
        native=("sip_call_id",),
        note="X- headers are copied to its own B leg unless told not to.",
    ),
    Preset("asterisk", seen_as=("PJSIP_HEADER(read,{name})",), native=("CHANNEL(pjsip,call-id)",)),
    Preset(
        "openai",
        seen_as=("data.sip_headers[{name}]",),
        native=("data.sip_headers[Call-ID]",),
        note="Realtime SIP. The call_id in the webhook is the platform's own.",
    ),
)
PRESETS: Mapping[str, Preset] = MappingProxyType({preset.name: preset for preset in _TABLE})
"""Every shipped preset by name. A table that contradicts itself does not import."""


def preset_from_values(name: str, values: Mapping[str, object]) -> Preset:
    """A preset of the user's own, from configuration values under the field names of `Preset`. Raises PresetError naming what is wrong."""
    known = {field for field in Preset.__dataclass_fields__ if field not in ("name", "inferred")}
    if unknown := sorted(set(values) - known):
        raise PresetError(f"preset {name}: unknown key {unknown[0]!r}; there are: {', '.join(sorted(known))}")
    fields: dict[str, object] = {}
    for key, value in values.items():
        if key in ("seen_as", "native", "barred"):
            entries = [value] if isinstance(value, str) else value
            if not isinstance(entries, list | tuple) or not all(isinstance(entry, str) for entry in entries):
                raise PresetError(f"preset {name}: {key} must be a list of texts")
            fields[key] = tuple(entries)
        elif not _fits(key, value):
            raise PresetError(f"preset {name}: {value!r} does not fit the key {key}")
        else:
            fields[key] = value
    return Preset(name, **fields)  # type: ignore[arg-type]  # each value's type was checked above


def _fits(key: str, value: object) -> bool:
    if key in ("alnum_only", "survives"):
        return isinstance(value, bool)
    if key == "max_bytes":
        return value is None or (isinstance(value, int) and not isinstance(value, bool))
    if isinstance(value, str):
        return all(sign >= " " and sign != "\x7f" for sign in value)  # it becomes a header's name, or a part of its value
    return value is None and key in ("alias", "correlation_alias")
