"""What a SIP message may show outside the trace: the correlation token stands for a secret, so only its hash is shown."""

from __future__ import annotations

import re

from control.contract.fold import correlation_hash

_CORRELATION = re.compile(r"^([ \t]*x-correlation-id[ \t]*:[ \t]*)([^\r\n]*?)([ \t]*\r?)$", re.IGNORECASE | re.MULTILINE)


def redact_correlation(text: str) -> str:
    """`text` with the value of every X-Correlation-Id replaced by `sha256:` and its hash."""
    return _CORRELATION.sub(lambda found: f"{found[1]}sha256:{correlation_hash(found[2])}{found[3]}" if found[2] else found[0], text)
