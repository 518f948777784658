"""A headerless G.711 µ-law file for SIPp's rtp_stream."""

from __future__ import annotations

import math
from pathlib import Path


def mu_law(sample: int) -> int:
    """One 16-bit sample as µ-law (ITU-T G.711 table 2a)."""
    sign = 0x80 if sample < 0 else 0
    magnitude = min(abs(sample), 32635) + 132
    exponent = magnitude.bit_length() - 8
    return ~(sign | exponent << 4 | magnitude >> (exponent + 3) & 0x0F) & 0xFF


def write_speech(path: Path, packets: int) -> None:
    """`packets` times 20 ms of a buzz at 200 Hz, swelling like syllables."""
    samples = packets * 160
    wave = (8000 * math.sin(2 * math.pi * 200 * n / 8000) * (0.6 + 0.4 * math.sin(2 * math.pi * 4 * n / 8000)) for n in range(samples))
    path.write_bytes(bytes(mu_law(int(value)) for value in wave))
