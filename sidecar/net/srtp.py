"""One leg's SRTP in libsrtp (RFC 3711, RFC 7714): opens what its party sends, seals what goes to it."""

from __future__ import annotations

from typing import Final

from pylibsrtp import Error, Policy, Session

from sidecar.media.rtp import is_rtcp
from sidecar.sip.sdes import Keys

_PROFILES: Final = {
    "AEAD_AES_256_GCM": Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
    "AEAD_AES_128_GCM": Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AES_CM_128_HMAC_SHA1_80": Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
}


class Shield:
    """Sessions of one leg's m-line. Kept while the keys stay: its roll-over counters and replay windows are in it."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        profile = _PROFILES[keys.suite]
        self._in = Session(Policy(key=keys.theirs, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=profile))
        self._out = Session(Policy(key=keys.ours, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile))

    def open(self, data: bytes) -> bytes | None:
        """A packet of the party in the clear; None where it is not authentic, or came before."""
        try:
            return self._in.unprotect_rtcp(data) if is_rtcp(data) else self._in.unprotect(data)
        except (Error, TypeError):
            return None

    def seal(self, data: bytes) -> bytes | None:
        """A packet for the party; None where it is none."""
        try:
            return self._out.protect_rtcp(data) if is_rtcp(data) else self._out.protect(data)
        except (Error, TypeError):
            return None
