"""Just enough SDP (RFC 8866, RFC 3264) for two parties that speak G.711."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.clocks import Addr
from sidecar.lab.g711 import CODEC_OF, PAYLOAD_TYPE, Codec

TYPE = "application/sdp"
TELEPHONE_EVENT = 101


def describe(address: Addr, codecs: Sequence[Codec], *, version: int = 1) -> bytes:
    """An offer or answer for one audio stream with telephone-event, 20 ms packets."""
    host, port = address
    family = "IP6" if ":" in host else "IP4"
    formats = [PAYLOAD_TYPE[codec] for codec in codecs]
    lines = [
        "v=0",
        f"o=- {port} {version} IN {family} {host}",
        "s=-",
        f"c=IN {family} {host}",
        "t=0 0",
        f"m=audio {port} RTP/AVP {' '.join(map(str, [*formats, TELEPHONE_EVENT]))}",
        *(f"a=rtpmap:{PAYLOAD_TYPE[codec]} {codec}/8000" for codec in codecs),
        f"a=rtpmap:{TELEPHONE_EVENT} telephone-event/8000",
        f"a=fmtp:{TELEPHONE_EVENT} 0-16",
        "a=ptime:20",
        "a=sendrecv",
    ]
    return ("\r\n".join(lines) + "\r\n").encode()


def read(body: bytes) -> tuple[Addr, list[Codec]]:
    """Where the other side wants its audio, and the G.711 codecs it takes, in its order. Raises ValueError when it has no usable audio."""
    host: str | None = None
    media: list[str] = []
    for line in body.decode("utf-8", "replace").splitlines():
        if line.startswith("m="):
            if media:
                break  # what follows describes another stream
            if line.startswith("m=audio "):
                media = line.split()
        elif line.startswith("c=") and (host is None or media):
            host = line.split()[-1].partition("/")[0]
    codecs = [CODEC_OF[int(number)] for number in media[3:] if number.isdigit() and int(number) in CODEC_OF]
    if host is None or len(media) < 4 or not media[1].isdigit() or not codecs:
        raise ValueError("the description offers no G.711 audio with an address")
    return (host, int(media[1])), codecs
