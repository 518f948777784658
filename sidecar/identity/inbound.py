"""What is read at the door: which ids an INVITE claims, whether they hold together, and what the call counts as.

Nothing here breaks a call. A finding is told in the verdict; only a policy that says `reject` turns it into a 400.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from sidecar.identity.classify import Kind, Network, Setting, classify
from sidecar.identity.findings import Finding
from sidecar.identity.presets import CALL_ID_HEADER, CID_HEADER, CORRELATION_HEADER
from sidecar.sip.headers import Headers
from sidecar.sip.message import Request

ClaimPolicy = Literal["overwrite", "reject", "keep"]

MAX_CALL_ID = 255
"""Characters. RFC 3261 sets no limit; longer ones do not fit the columns and header lines of common platforms."""
OWN_HEADERS = frozenset({CALL_ID_HEADER.lower(), CID_HEADER.lower()})
"""Headers in which only a trusted caller may speak of the call's identity."""
# RFC 3261 25.1: callid = word [ "@" word ]
_WORD = r"[A-Za-z0-9\-.!%*_+`'~()<>:\\\"/\[\]?{}]+"
_CALL_ID = re.compile(rf"{_WORD}(?:@{_WORD})?")
_CORRELATION = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, slots=True)
class Policy:
    """What to do about findings.

    `claim`: when a trusted caller claims another id than its Call-ID, `overwrite` the claim (default), `reject` the call, or `keep` the
    claim and carry it on. `reject`: names of further findings that refuse the call.
    """

    claim: ClaimPolicy = "overwrite"
    reject: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a call is, as far as its INVITE tells."""

    call_id: str
    carried_id: str
    """What to carry towards the platform: the Call-ID, or the caller's claim where the policy says `keep`."""
    claim: str | None
    """The id that a trusted caller stated in our headers, whether or not it agrees."""
    correlation_id: str | None
    """The first non-empty correlation token, verbatim."""
    kind: Kind
    why: str
    """The rule that made it a simulation or not."""
    stripped: frozenset[str]
    """Lower-case names of headers that must not cross to the other leg."""
    findings: tuple[Finding, ...]
    rejected: str | None
    """Why the policy refuses the call with 400; None when it goes on."""


def read(
    request: Request,
    *,
    trusted: bool,
    call_id_in_use: bool = False,
    simulation: Setting = "auto",
    source: str | None = None,
    networks: Iterable[Network] = (),
    digest_user: str | None = None,
    digest_users: Collection[str] = (),
    policy: Policy = Policy(),
) -> Identity:
    """Read the identity of an INVITE. `call_id_in_use`: another live call has this Call-ID. Raises MalformedMessage without a Call-ID."""
    headers, call_id = request.headers, request.call_id
    correlation_id, correlation_findings = _correlation(headers)
    claim, claim_findings = _claim(headers, call_id, trusted)
    findings = (*_call_id(call_id, call_id_in_use), *claim_findings, *correlation_findings)
    classified = classify(
        simulation,
        correlated=correlation_id is not None,
        source=source,
        networks=networks,
        digest_user=digest_user,
        digest_users=digest_users,
    )
    keep = policy.claim == "keep" and claim is not None and is_call_id(claim)
    return Identity(
        call_id=call_id,
        carried_id=claim if keep and claim is not None else call_id,
        claim=claim,
        correlation_id=correlation_id,
        kind=classified.kind,
        why=classified.why,
        stripped=OWN_HEADERS,
        findings=findings,
        rejected=_rejection(findings, policy),
    )


def is_call_id(value: str) -> bool:
    """Whether `value` is a Call-ID by the grammar of RFC 3261 section 25.1."""
    return _CALL_ID.fullmatch(value) is not None


def is_correlation_id(value: str) -> bool:
    """Whether `value` has the shape that every known reader of correlation tokens accepts."""
    return _CORRELATION.fullmatch(value) is not None


def shown(token: str) -> str:
    """How a correlation token may appear in a text: the first 12 hex digits of its SHA-256."""
    return "sha256:" + hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _call_id(call_id: str, in_use: bool) -> Iterable[Finding]:
    if not is_call_id(call_id):
        yield Finding("call_id_malformed", f"Call-ID {call_id[:MAX_CALL_ID]!r} is not word or word@word")
    if len(call_id) > MAX_CALL_ID:
        yield Finding("call_id_too_long", f"Call-ID has {len(call_id)} characters; platforms keep {MAX_CALL_ID}")
    if in_use:
        yield Finding("call_id_in_use", f"Call-ID {call_id[:MAX_CALL_ID]!r} belongs to another live call")


def _claim(headers: Headers, call_id: str, trusted: bool) -> tuple[str | None, list[Finding]]:
    stated = [(name, value.strip()) for name in (CALL_ID_HEADER, CID_HEADER) for value in headers.all(name) if value.strip()]
    if not stated:
        return None, []
    if not trusted:
        names = " and ".join(dict.fromkeys(name for name, _ in stated))
        return None, [Finding("claim_stripped", f"{names} from a caller that is not trusted")]
    findings = [
        Finding("claim_disagrees", f"{name} says {value[:MAX_CALL_ID]!r}, the Call-ID is {call_id[:MAX_CALL_ID]!r}")
        for name, value in dict.fromkeys(stated)
        if value != call_id
    ]
    return stated[0][1], findings


def _correlation(headers: Headers) -> tuple[str | None, list[Finding]]:
    values = headers.all(CORRELATION_HEADER)
    tokens = [value for value in values if value.strip()]
    findings: list[Finding] = []
    if len(values) > 1:
        told = ", ".join(shown(value) for value in dict.fromkeys(values))
        if len(set(values)) > 1:
            findings.append(Finding("correlation_contradictory", f"{len(values)} correlation headers that differ: {told}"))
        else:
            findings.append(Finding("correlation_duplicate", f"the same correlation header {len(values)} times: {told}"))
    findings += [
        Finding("correlation_malformed", f"correlation token {shown(value)} ({len(value)} characters) is not [A-Za-z0-9._-]{{1,128}}")
        for value in dict.fromkeys(values)
        if not is_correlation_id(value)
    ]
    return (tokens[0] if tokens else None), findings


def _rejection(findings: Iterable[Finding], policy: Policy) -> str | None:
    refused = policy.reject | ({"claim_disagrees"} if policy.claim == "reject" else set())
    return next((finding.detail for finding in findings if finding.name in refused), None)
