"""What a SIP message may show outside the trace: the correlation token stands for a secret, so only its hash is shown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, unquote

from control.contract import facts as f
from control.contract.fold import correlation_hash

# Every header that is called a correlation id, whatever a platform wants before or between the words. RFC 3261 7.3.1: a line that begins
# with a blank belongs to the one before, also in a body of type message/sipfrag.
_HEADER = re.compile(
    r"^([ \t]*[\w.!%*+`'~-]*correlation[-_]?id[ \t]*:(?:\r?\n[ \t]|[ \t])*)((?:[^\r\n]|\r(?!\n)|\r?\n[ \t])*)", re.IGNORECASE | re.MULTILINE
)
_IN_URI = re.compile(r"([?&][\w.!%*+`'~-]*correlation[-_]?id=)([^&>;,\s\"]+)", re.IGNORECASE)
_FOLD = re.compile(r"[ \t]*\r?\n[ \t]+")
_SHORTEST = 16
"""Characters: what is shorter is looked for by its header alone, since it may be a part of any word."""


def redact_correlation(text: str, token: str | None = None) -> str:
    """`text` with every correlation id replaced by `sha256:` and its hash: in headers of that name, folded ones too, and in URIs.

    `token`: the call's own, which is then replaced wherever it stands, also in its percent and hex forms.
    """
    if token is not None and len(token) >= _SHORTEST:
        for form in dict.fromkeys((token, quote(token, safe=""), token.encode("utf-8", "surrogateescape").hex())):
            text = re.sub(re.escape(form), _shown(token), text, flags=re.IGNORECASE if form != token else 0)
    if "correlation" not in text.lower():
        return text
    text = _HEADER.sub(lambda found: found[1] + _hashed(found[2]), text)
    return _IN_URI.sub(lambda found: found[1] + _hashed(unquote(found[2])), text)


def token_of(trace: Iterable[f.Fact]) -> str | None:
    """The correlation token of a call by its trace; None for none, and for one that is the Call-ID, which is no secret."""
    first = next((fact for fact in trace if isinstance(fact, f.CallStarted)), None)
    return None if first is None or first.correlation_id == first.sip_call_id else first.correlation_id


def _shown(value: str) -> str:
    return f"sha256:{correlation_hash(value)}"


def _hashed(value: str) -> str:
    """A header's value, the blanks behind it kept; one that is empty, or hashed already, as it is."""
    kept = value.rstrip(" \t\r\n")
    plain = _FOLD.sub(" ", kept).strip()
    if not plain or re.fullmatch(r"sha256:[0-9a-f]{64}", plain):
        return value
    return _shown(plain) + value[len(kept) :]
