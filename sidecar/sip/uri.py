"""SIP and SIPS URIs (RFC 3261 19.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from sidecar.sip.errors import MalformedMessage

Params = tuple[tuple[str, str | None], ...]
"""Parameters in order, names and values as written; None for a parameter without `=`."""

_HOST: Final = re.compile(r"[A-Za-z0-9._\-]+")
_IPV6: Final = re.compile(r"[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._\-]+)?")
_MEMORABLE: Final = 256
_FORBIDDEN: Final = re.compile(r'[\x00-\x20\x7f<>"]')
# 19.1.4: a default written out does not match its absence, and maddr never matches none.
_NEVER_ONE_SIDED: Final = ("transport", "user", "ttl", "method", "maddr")


def parse_host_port(text: str) -> tuple[str, int | None]:
    """`host[:port]` with an IPv6 literal in brackets, white space around the colon allowed; the host comes back without brackets.

    `_` is let through because container names have it. MalformedMessage when host or port is not one.
    """
    text = text.strip(" \t")
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or _IPV6.fullmatch(host) is None or ":" not in host:
            raise MalformedMessage("malformed IPv6 reference")
        rest = rest.lstrip(" \t")
        colon, digits = rest[:1], rest[1:]
    else:
        host, colon, digits = text.partition(":")
        host = host.rstrip(" \t")
        if _HOST.fullmatch(host) is None:
            raise MalformedMessage("malformed host")
    if not colon:
        return host, None
    digits = digits.strip(" \t")
    if colon != ":" or len(digits) > 5 or not digits.isascii() or not digits.isdigit() or int(digits) > 65535:
        raise MalformedMessage("malformed port")
    return host, int(digits)


def bracketed(host: str) -> str:
    """`host` as it is written beside a port: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


@dataclass(frozen=True, slots=True)
class SipUri:
    """One SIP or SIPS URI.

    `user`, `password`, `params` and `headers` are as written (escaped); `host` has no brackets, see `host_literal`.
    """

    scheme: str
    user: str | None
    host: str
    port: int | None = None
    params: Params = ()
    headers: str = ""
    """What follows `?`, as written."""
    password: str | None = None

    @classmethod
    def parse(cls, text: str) -> SipUri:
        """MalformedMessage: status 416 when the scheme is another one (8.2.2.1), 400 when the rest is not of the grammar."""
        # A call's few URIs are asked about again and again. Long ones are not remembered, so that strangers cannot fill the memory.
        return _remembered(text) if len(text) <= _MEMORABLE else cls._parse(text)

    @classmethod
    def _parse(cls, text: str) -> SipUri:
        scheme, colon, rest = text.partition(":")
        scheme = scheme.lower()
        if not colon or _FORBIDDEN.search(text):
            raise MalformedMessage("malformed URI")
        if scheme not in ("sip", "sips"):
            raise MalformedMessage("unsupported URI scheme", 416)
        # An unescaped @ is legal nowhere else, so the first one ends the user part whatever it holds (; ? / are legal there).
        userinfo, at, hostpart = rest.partition("@")
        user: str | None = None
        password: str | None = None
        if at:
            user, parted, secret = userinfo.partition(":")
            password = secret if parted else None
            if not user:
                raise MalformedMessage("empty user in URI")
        else:
            hostpart = rest
        hostpart, _, headers = hostpart.partition("?")
        hostport, *params = hostpart.split(";")
        host, port = parse_host_port(hostport)
        return cls(scheme, user, host, port, tuple(_uri_param(param) for param in params if param), headers, password)

    @property
    def host_literal(self) -> str:
        """The host as it is written in a URI or Via: IPv6 in brackets."""
        return bracketed(self.host)

    @property
    def secure(self) -> bool:
        """Whether the scheme is sips."""
        return self.scheme == "sips"

    def param(self, name: str) -> str | None:
        """Value of a parameter, "" for one without value, None when it is absent."""
        name = name.lower()
        for found, value in self.params:
            if found.lower() == name:
                return value or ""
        return None

    def with_user(self, user: str | None) -> SipUri:
        """The same URI for another user (as written, escaped), without a password."""
        return replace(self, user=user, password=None)

    def for_request_line(self) -> SipUri:
        """The same URI without `method` and headers, which may not stand in a Request-URI (19.1.1)."""
        if not self.headers and self.param("method") is None:
            return self
        return replace(self, params=tuple(param for param in self.params if param[0].lower() != "method"), headers="")

    def equivalent(self, other: SipUri) -> bool:
        """Whether both name the same resource by RFC 3261 19.1.4."""
        if self.scheme != other.scheme or self.port != other.port or self.host.lower() != other.host.lower():
            return False
        if _unescaped(self.user) != _unescaped(other.user) or _unescaped(self.password) != _unescaped(other.password):
            return False
        mine, others = _folded(self.params), _folded(other.params)
        if any((name in mine) != (name in others) for name in _NEVER_ONE_SIDED):
            return False
        return all(others[name] == value for name, value in mine.items() if name in others) and _uri_headers(self) == _uri_headers(other)

    def __str__(self) -> str:
        secret = "" if self.password is None else f":{self.password}"
        userinfo = "" if self.user is None else f"{self.user}{secret}@"
        port = "" if self.port is None else f":{self.port}"
        params = "".join(f";{name}" if value is None else f";{name}={value}" for name, value in self.params)
        headers = f"?{self.headers}" if self.headers else ""
        return f"{self.scheme}:{userinfo}{self.host_literal}{port}{params}{headers}"


_remembered: Final = lru_cache(maxsize=2048)(SipUri._parse)


def _uri_param(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    if not name:
        raise MalformedMessage("malformed URI parameter")
    return name, value if equals else None


def _unescaped(text: str | None) -> str | None:
    return None if text is None else unquote(text, errors="surrogateescape")


def _folded(params: Params) -> dict[str, str]:
    return {unquote(name).lower(): unquote(value or "").lower() for name, value in params}


def _uri_headers(uri: SipUri) -> list[tuple[str, str]]:
    pairs = (part.partition("=") for part in uri.headers.split("&") if part)
    return sorted((unquote(name).lower(), unquote(value)) for name, _, value in pairs)
