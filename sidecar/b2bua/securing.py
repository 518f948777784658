"""SRTP that ends at the sidecar (RFC 4568): which leg speaks it, and which keys each leg's party hears of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from sidecar.b2bua.effects import Leg
from sidecar.b2bua.legs import PortPairs
from sidecar.sip import sdes, sdp
from sidecar.sip.sdes import Crypto, Keys

Srtp = Literal["pass", "plain", "srtp"]
"""Of the agent's leg: keys pass by and media stays encrypted from end to end; RTP; SRTP with our keys. The caller has what it offers."""


class Securing:
    """What both parties said of their keys, by m-line."""

    def __init__(self, mode: Srtp) -> None:
        self._mode = mode
        self._offers = False
        self._caller_secure: dict[int, bool] = {}
        self._chosen: dict[tuple[Leg, int], Crypto] = {}

    @property
    def ends_here(self) -> bool:
        """False where descriptions cross with their keys as they are."""
        return self._mode != "pass"

    def heard(self, leg: Leg, lines: Sequence[sdp.MediaLine], *, offers: bool) -> None:
        """Take a description that came on `leg`, an offer or an answer. Raises UnusableSdp where a line has no key that we can use."""
        if not self.ends_here:
            return
        self._offers = offers
        for line in lines:
            if not line.is_rtp:
                continue
            secure = sdes.secure(line.proto)
            if "SAVP" in line.proto.upper() and not secure:
                raise sdp.UnusableSdp(f"media line {line.index + 1} wants {line.proto}, and only SDES keys can be ended here")
            if leg == "A" and self._offers:
                self._caller_secure[line.index] = secure
            self._chosen.pop((leg, line.index), None)
            if secure:
                usable = sdes.read(line.crypto)
                if not usable:
                    raise sdp.UnusableSdp(f"media line {line.index + 1} has no a=crypto line of a suite among {', '.join(sdes.SUITES)}")
                self._chosen[leg, line.index] = usable[0]

    def keys(self, leg: Leg, index: int, ports: PortPairs | None) -> Keys | None:
        """The keys of a leg's m-line as far as its party has spoken; None for plain RTP."""
        chosen = self._chosen.get((leg, index))
        if chosen is None or ports is None or not self.ends_here:
            return None
        return Keys(chosen.suite, chosen.key, sdes.own_keys(ports.randomness(leg))[chosen.suite])

    def told(self, body: bytes, to: Leg, lines: Sequence[sdp.MediaLine], ports: Mapping[int, PortPairs]) -> bytes:
        """The description for the party of leg `to`, with our keys or without any."""
        if not self.ends_here:
            return body
        media: dict[int, list[Crypto]] = {}
        for line in lines:
            if not line.is_rtp or line.index not in ports:
                continue
            secure = self._caller_secure.get(line.index, False) if to == "A" else self._mode == "srtp"
            media[line.index] = self._lines(to, line.index, ports[line.index]) if secure else []
        return sdes.rewrite(body, media)

    def _lines(self, to: Leg, index: int, ports: PortPairs) -> list[Crypto]:
        random, chosen = ports.randomness(to), self._chosen.get((to, index))
        if self._offers or chosen is None:
            return sdes.offered(random)
        return [Crypto(chosen.tag, chosen.suite, sdes.own_keys(random)[chosen.suite])]
