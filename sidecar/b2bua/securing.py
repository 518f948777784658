"""SRTP that ends at the sidecar (RFC 4568, RFC 5763): which leg speaks it, and what each leg's party hears of keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from sidecar.b2bua.effects import Leg, other
from sidecar.b2bua.legs import PortPairs
from sidecar.sip import dtls, sdes, sdp
from sidecar.sip.dtls import Dtls, Ice
from sidecar.sip.sdes import Crypto, Keys

Srtp = Literal["pass", "plain", "srtp", "dtls"]
"""Of the agent's leg: keys pass by and media stays encrypted from end to end; RTP; SRTP with our keys; SRTP with the keys of a DTLS
handshake. The caller has what it offers."""
Kind = Literal["rtp", "sdes", "dtls"]
_AGENTS: Final[Mapping[Srtp, Kind]] = {"pass": "rtp", "plain": "rtp", "srtp": "sdes", "dtls": "dtls"}

_OFFERED: Final[Mapping[Kind, str]] = {"rtp": "RTP/AVP", "sdes": "RTP/SAVP", "dtls": dtls.PROFILE}


class Securing:
    """What both parties said of their keys, by m-line."""

    def __init__(self, mode: Srtp) -> None:
        self._mode = mode
        self._offers = False
        self._callers: dict[int, Kind] = {}
        self._protos: dict[tuple[Leg, int], str] = {}
        """As the parties wrote them: an answer has the offer's (RFC 3264 section 6)."""
        self._chosen: dict[tuple[Leg, int], Crypto] = {}
        self._handshakes: dict[tuple[Leg, int], Dtls] = {}
        """The ICE credentials in them are the party's alone, until there are ports."""

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
            if line.is_rtp:
                self._heard(leg, line)

    def _heard(self, leg: Leg, line: sdp.MediaLine) -> None:
        place, kind = (leg, line.index), _kind(line.proto)
        if kind is None:
            raise sdp.UnusableSdp(f"media line {line.index + 1} wants {line.proto}, which cannot be ended here")
        if leg == "A" and self._offers:
            self._callers[line.index] = kind
        if "dtls" in (kind, self.kind(leg, line.index)) and kind != self.kind(leg, line.index):
            raise sdp.UnusableSdp(f"media line {line.index + 1} is {line.proto}, and the route has DTLS-SRTP on this leg alone or nowhere")
        self._protos[place] = line.proto
        self._chosen.pop(place, None)
        if kind == "sdes":
            usable = sdes.read(line.crypto)
            if not usable:
                raise sdp.UnusableSdp(f"media line {line.index + 1} has no a=crypto line of a suite among {', '.join(sdes.SUITES)}")
            self._chosen[place] = usable[0]
        if kind == "dtls":
            self._handshakes[place] = self._handshake(place, line)

    def _handshake(self, place: tuple[Leg, int], line: sdp.MediaLine) -> Dtls:
        shown = dtls.fingerprints(line.fingerprints)
        if not shown:
            raise sdp.UnusableSdp(f"media line {line.index + 1} has no a=fingerprint of {', '.join(dtls.HASHES)}")
        before = self._handshakes.get(place)
        ice = Ice("", "", line.ice_ufrag) if line.ice_ufrag else None
        # RFC 8842 5.4: the association goes on while certificate and role do; who leaves the role open leaves it as it is.
        client = dtls.is_client(line.setup, offer=self._offers)
        if before is not None and before.fingerprints == shown and line.setup not in ("active", "passive"):
            client = before.client
        return Dtls(shown, client, ice)

    def kind(self, leg: Leg, index: int) -> Kind:
        """What a leg's m-line is."""
        return self._callers.get(index, "rtp") if leg == "A" else _AGENTS[self._mode]

    def keys(self, leg: Leg, index: int, ports: PortPairs | None) -> Keys | Dtls | None:
        """The keys of a leg's m-line, or where they come from, as far as its party has spoken; None for plain RTP."""
        if ports is None or not self.ends_here:
            return None
        handshake = self._handshakes.get((leg, index)) if self.kind(leg, index) == "dtls" else None
        if handshake is not None:
            if handshake.ice is None:
                return handshake
            return Dtls(handshake.fingerprints, handshake.client, Ice(*dtls.own_ice(ports.randomness(leg)), handshake.ice.their_ufrag))
        chosen = self._chosen.get((leg, index))
        return None if chosen is None else Keys(chosen.suite, chosen.key, sdes.own_keys(ports.randomness(leg))[chosen.suite])

    def told(self, body: bytes, to: Leg, lines: Sequence[sdp.MediaLine], ports: Mapping[int, PortPairs]) -> bytes:
        """The description for the party of leg `to`, with our keys or without any."""
        if not self.ends_here:
            return body
        mine = [line.index for line in lines if line.is_rtp and line.index in ports]
        handshakes = [index for index in mine if self.kind(to, index) == "dtls"]
        either = frozenset(index for index in mine if "dtls" in (self.kind(to, index), self.kind(other(to), index)))
        if either:
            body = dtls.without(body, either)
        media = {index: self._lines(to, index, ports[index]) if self.kind(to, index) == "sdes" else [] for index in mine}
        body = sdes.rewrite(body, media)
        if not either:
            return body
        places = {line.index: line for line in sdp.parse(body).media} if handshakes else {}
        attributes = {index: self._attributes(to, places[index], ports[index]) for index in handshakes}
        protos = {index: self._protos.get((to, index), _OFFERED[self.kind(to, index)]) for index in either}
        return dtls.rewrite(body, protos, attributes)

    def _attributes(self, to: Leg, place: sdp.MediaLine, ports: PortPairs) -> list[bytes]:
        theirs = self._handshakes.get((to, place.index))
        setup = "actpass" if self._offers or theirs is None else "active" if theirs.client else "passive"
        checked = theirs is None or theirs.ice is not None
        ice = dtls.own_ice(ports.randomness(to)) if checked else None
        return dtls.lines(ports.fingerprint, setup, ice, place.address, place.port)

    def _lines(self, to: Leg, index: int, ports: PortPairs) -> list[Crypto]:
        random, chosen = ports.randomness(to), self._chosen.get((to, index))
        if self._offers or chosen is None:
            return sdes.offered(random)
        return [Crypto(chosen.tag, chosen.suite, sdes.own_keys(random)[chosen.suite])]


def _kind(proto: str) -> Kind | None:
    """None for what is encrypted in a way that we do not know."""
    if dtls.used(proto):
        return "dtls"
    if sdes.secure(proto):
        return "sdes"
    return None if "SAVP" in proto.upper() else "rtp"
