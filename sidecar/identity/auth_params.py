"""The grammar of authentication headers: challenges and credentials (RFC 9110 section 11, RFC 3261 section 25.1).

A comma parts parameters as well as challenges, so list headers of this kind cannot be cut at commas. The reader never raises: what it
cannot read it steps over, and the challenge around it is judged by what is left.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # noqa: S105 (a grammar rule, no secret)
_GAP = re.compile(r"[\s,]*")
_PARAM = re.compile(rf'({_TOKEN})\s*=(?!=)\s*(?:"((?:[^"\\]|\\.)*+)("?)|([^\s,"]*))', re.DOTALL)
_SCHEME = re.compile(rf"({_TOKEN})(?=[\s,]|\Z)")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|\Z))")
_SKIP = re.compile(r'(?:"(?:[^"\\]|\\.)*+"?|[^,"])+|"', re.DOTALL)


@dataclass(frozen=True, slots=True)
class AuthParams:
    """A scheme with its parameters. Names are lower case; the first of a repeated name counts."""

    scheme: str
    raw: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Values without their quotes but with their escapes: what an echo must repeat."""

    def get(self, name: str) -> str | None:
        """A value as it is meant: `\\"` stands for `"` (RFC 9110 section 5.6.4)."""
        value = self.raw.get(name)
        return None if value is None else unescape(value)


def read(value: str) -> list[AuthParams]:
    """Every challenge (or the one set of credentials) of a header value, in order."""
    found: list[tuple[str, dict[str, str]]] = []
    at = _GAP.match(value, 0).end()  # type: ignore[union-attr]  # matches the empty string
    while at < len(value):
        if (param := _PARAM.match(value, at)) and found:
            found[-1][1].setdefault(param[1].lower(), param[2] if param[2] is not None else param[4])
            at = param.end()
        elif scheme := _SCHEME.match(value, at):
            found.append((scheme[1], {}))
            at = scheme.end()
            blank = len(value[at:]) - len(value[at:].lstrip())
            if token68 := _TOKEN68.match(value, at + blank):
                # `Negotiate YII=`: opaque to us, but it must not be taken for the next scheme.
                at = token68.end() if blank else at
        else:
            skipped = _SKIP.match(value, at)
            at = skipped.end() if skipped else at + 1
        at = _GAP.match(value, at).end()  # type: ignore[union-attr]
    return [AuthParams(scheme, MappingProxyType(params)) for scheme, params in found]


def read_all(values: Iterable[str]) -> list[AuthParams]:
    """`read` over several header lines."""
    return [challenge for value in values for challenge in read(value)]


def read_info(value: str) -> AuthParams:
    """The bare parameter list of an Authentication-Info (RFC 7615 section 3)."""
    found = read(f"Info {value}")
    return found[0] if found else AuthParams("Info")


def unescape(quoted: str) -> str:
    """The content of a quoted-string."""
    return re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL) if "\\" in quoted else quoted


def quote(value: str) -> str:
    """`value` as a quoted-string."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
