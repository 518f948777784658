"""What must not be seen in a trace: values that were made with a password, and the keys of media.

It fails closed: credentials that do not read as the plain grammar lose their whole value, not only what was recognised.
"""

from __future__ import annotations

import re

MASK = "redacted"
_HEADER = re.compile(
    r"^((?:proxy-)?(?:authorization|authentication-info)[ \t]*:(?:\r?\n[ \t]|[ \t])*)((?:[^\r\n]|\r(?!\n)|\r?\n[ \t])*)",
    re.IGNORECASE | re.MULTILINE,
)
_PARAM = r'[^\s,="]++\s*+=\s*+(?:"(?:[^"\\]|\\.)*+"|[^\s,"]*+)'
_DIGEST = re.compile(rf"\s*+Digest\s++{_PARAM}(?:\s*+,\s*+{_PARAM})*+\s*+", re.IGNORECASE | re.DOTALL)
_INFO_PARAM = rf"(?=(?:nextnonce|rspauth|qop|cnonce|nc)\s*=){_PARAM}"
_INFO = re.compile(rf"\s*+{_INFO_PARAM}(?:\s*+,\s*+{_INFO_PARAM})*+\s*+", re.IGNORECASE | re.DOTALL)
_ONE = re.compile(r'([^\s,="]++)(\s*+=\s*+)("(?:[^"\\]|\\.)*+"|[^\s,"]*+)', re.DOTALL)
_KEY = re.compile(r"((?:\binline:)|(?:^a=key-mgmt:[ \t]*\S+[ \t]+)|(?:^k=))[^\s|;]+", re.IGNORECASE | re.MULTILINE)
_SECRET = frozenset({"response", "rspauth"})


def redact(value: str) -> str:
    """A header value of Authorization, Proxy-Authorization or (Proxy-)Authentication-Info without what the password made."""
    if not _DIGEST.fullmatch(value) and not _INFO.fullmatch(value):
        scheme = re.match(r"\s*([A-Za-z][A-Za-z0-9-]*)\s+\S", value)
        return f"{scheme[1]} {MASK}" if scheme else MASK
    return _ONE.sub(_mask, value)


def redact_message(text: str) -> str:
    """A whole SIP message with all its credentials redacted, folded ones and those inside a `message/sipfrag` body too.

    So are the keys of its media: `a=crypto` (RFC 4568), `a=key-mgmt` (RFC 4567) and `k=` (RFC 2327) of a session description.
    """
    lowered = text.lower()
    if "inline:" in lowered or "a=key-mgmt" in lowered or "\nk=" in lowered:
        text = _KEY.sub(lambda found: found[1] + MASK, text)
    if "authorization" not in lowered and "authentication-info" not in lowered:
        return text
    return _HEADER.sub(lambda found: found[1] + redact(found[2]), text)


def _mask(found: re.Match[str]) -> str:
    return f'{found[1]}{found[2]}"{MASK}"' if found[1].lower() in _SECRET else found[0]
