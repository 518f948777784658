"""What stands in a configuration: values that are checked as they are read."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr

from sidecar.clocks import Addr
from sidecar.identity.findings import FINDINGS
from sidecar.net import hep, otlp
from sidecar.net.rtpengine.client import parse_server
from sidecar.sip.endpoint import TRANSPORTS
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.uri import SipUri

_RECIPIENT_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\]")


class Section(BaseModel):
    """A mapping in the file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


def _network(value: str) -> str:
    ipaddress.ip_network(value, strict=False)
    return value


def _sip_uri(value: str) -> str:
    try:
        uri = SipUri.parse(value)
    except MalformedMessage as error:
        raise ValueError(f"{value!r} is not a SIP URI ({error.detail}); write sip:user@host:port") from error
    transport = uri.param("transport")
    if transport is not None and (transport.lower() not in TRANSPORTS or (uri.secure and transport.lower() == "udp")):
        raise ValueError(f"{value!r}: {uri.scheme}: over {transport or 'nothing'} is not spoken here; write ;transport=udp, tcp or tls")
    if uri.for_request_line() is not uri:
        raise ValueError(f"{value!r}: a target has neither ;method= nor ?headers, because no Request-URI may hold them (RFC 3261 19.1.1)")
    return value


def _http_url(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"{value!r} is not an http:// or https:// URL")
    return value.rstrip("/")


def parse_listen(value: str) -> Addr:
    """`127.0.0.1:9090` as an address. Raises ValueError."""
    url = urlsplit(value if "//" in value else f"//{value}")
    if url.hostname is None or url.port is None:
        raise ValueError(f"{value!r} needs a host and a port, as in 127.0.0.1:9090")
    ipaddress.ip_address(url.hostname)
    return url.hostname, url.port


def _recipient_host(value: str) -> str:
    if not _RECIPIENT_HOST.fullmatch(value):
        raise ValueError(f"{value!r} is no host that may be dialled; write a name, *.domain for all names below it, or an address")
    return value


def _finding(value: str) -> str:
    if value not in FINDINGS:
        raise ValueError(f"no finding {value!r}; there are: {', '.join(sorted(FINDINGS))}")
    return value


def _collector(value: str) -> str:
    otlp.traces_url(value)
    return value


def _rtpengine(value: str) -> str:
    parse_server(value)
    return value


def _capture_server(value: str) -> str:
    hep.Server.parse(value)
    return value


def _one_line(value: str) -> str:
    if any(sign < " " or sign == "\x7f" for sign in value):
        raise ValueError(f"{value!r} holds a control character; it would break the header that it goes into")
    return value


def revealed(secret: SecretStr | None) -> str | None:
    """The text of a secret, for the one place that needs it."""
    return None if secret is None else secret.get_secret_value()


Line = Annotated[str, AfterValidator(_one_line)]
Network = Annotated[str, AfterValidator(_network)]
RecipientHost = Annotated[str, AfterValidator(_recipient_host)]
FindingName = Annotated[str, AfterValidator(_finding)]
TargetUri = Annotated[str, AfterValidator(_sip_uri)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
Collector = Annotated[str, AfterValidator(_collector)]
RtpengineServer = Annotated[str, AfterValidator(_rtpengine)]
CaptureServer = Annotated[str, AfterValidator(_capture_server)]
