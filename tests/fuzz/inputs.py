"""Inputs: the corpus, and what comes of it by changing, cutting, doubling and mixing."""

from __future__ import annotations

import random
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
WORDS = (
    *(
        b"\r\n",
        b"\r\n\r\n",
        b"\0",
        b"\xff",
        b"%00",
        b'"',
        b"\\",
        b"<",
        b">",
        b";",
        b",",
        b":",
        b"=",
        b"@",
        b"[::1]",
        b" ",
        b"\t",
        b"\r",
        b"\n",
    ),
    *(b"SIP/2.0", b"INVITE", b"ACK", b"CANCEL", b"BYE", b"sip:", b"tel:", b"z9hG4bK", b";tag=", b"Content-Length: ", b"Via: ", b"v=0\r\n"),
    *(b"m=audio 0 RTP/AVP 0\r\n", b"a=crypto:1 ", b"Digest ", b"nonce=", b"nc=00000000", b"stale=true", b"[" * 50, b"{" * 50, b"-1", b"0"),
    *(
        b"4294967296",
        b"9" * 400,
        b"1e999",
        b"NaN",
        b"null",
        b'"\\ud800"',
        b"\x80\x00",
        b"\x81\xc8",
        b"&a *a",
        b"!!python/object:x",
        b"\xed\xa0\x80",
    ),
)


def seeds(decoder: str) -> list[bytes]:
    """The corpus of a decoder."""
    return [path.read_bytes() for path in sorted((CORPUS / decoder).iterdir())]


def changed(draw: random.Random, good: list[bytes]) -> bytes:
    """One of `good`, broken in a few places."""
    data = bytearray(draw.choice(good))
    for _ in range(draw.choice((1, 1, 2, 3, 6, 12))):
        at = draw.randint(0, len(data))
        end = min(len(data), at + draw.choice((0, 1, 1, 2, 4, 20, 200)))
        match draw.randrange(7):
            case 0:
                data[at:end] = draw.choice(WORDS)
            case 1:
                data[at:end] = b""
            case 2:
                data[at:at] = data[at:end] * draw.choice((1, 2, 50))
            case 3:
                data[at:end] = draw.randbytes(end - at)
            case 4 if data:
                data[at % len(data)] ^= 1 << draw.randrange(8)
            case 5:
                other = draw.choice(good)
                start = draw.randint(0, len(other))
                data[at:end] = other[start : start + draw.randint(0, 300)]
            case _:
                del data[at:]
                data += draw.choice(good)[at:]
    return bytes(data[:70_000])
