"""The digest challenge of the stand-in agent edge: which realm, which algorithm, 401 or 407."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Literal

from sidecar.clocks import Mono
from sidecar.identity.digest import Accepted, DigestServer, Malformed
from sidecar.sip.message import Request


@dataclass(frozen=True, slots=True)
class Challenge:
    """Credentials that an INVITE must prove. A callee says 401, a proxy 407; `algorithm` None offers all that are known."""

    realm: str
    username: str
    password: str = field(repr=False)
    status: Literal[401, 407] = 407
    algorithm: Literal["MD5", "SHA-256"] | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """What to answer an INVITE that proved nothing."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()


class Gate:
    """Lets INVITEs with right credentials pass; `verdicts` counts what became of each."""

    def __init__(self, challenge: Challenge) -> None:
        self.verdicts: dict[str, int] = {}
        self._algorithm = challenge.algorithm
        self._server = DigestServer(
            challenge.realm, {challenge.username: challenge.password}, secrets.token_bytes(32), proxy=challenge.status == 407
        )

    def refuse(self, request: Request, token: str, now: Mono) -> Refused | None:
        """None when the INVITE may pass, else its answer. `token` makes the nonce unique."""
        verdict = self._server.check(request, now)
        match verdict:
            case Accepted():
                self._count("accepted")
                return None
            case Malformed():
                self._count("malformed")
                return Refused(400)
        self._count(verdict.reason)
        offered = self._server.challenge(token, now, stale=verdict.stale)
        return Refused(
            self._server.status,
            tuple((name, value) for name, value in offered if self._algorithm is None or f"algorithm={self._algorithm}," in value),
        )

    def _count(self, verdict: str) -> None:
        self.verdicts[verdict] = self.verdicts.get(verdict, 0) + 1
