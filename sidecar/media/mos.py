"""MOS-LQ from RTP alone: the E-model of ITU-T G.107 with every term at its default but the codec's and the loss's.

The delay term is left out, so this is listening quality; conversational quality needs a round trip known on both legs.
"""

from __future__ import annotations

from typing import Final

BEST: Final = 93.2
"""R with all parameters at the defaults of G.107 table 3."""
IMPAIRMENT: Final[dict[str, tuple[float, float]]] = {
    "PCMU": (0.0, 25.1),
    "PCMA": (0.0, 25.1),
    "G723": (15.0, 16.1),
    "GSM-EFR": (5.0, 10.0),
    "G729": (11.0, 19.0),
}
"""Ie and Bpl by codec name, from G.113 appendix I (G.711 with packet loss concealment, G.723.1 at 6.3 kbit/s, G.729A with VAD).

Wideband codecs have no value on this narrowband scale, so they have no MOS here.
"""


def rating(loss: float, burst_ratio: float, ie: float, bpl: float) -> float:
    """R after G.107 7.5, equation 7-29. `loss` is the share lost, 0–1; `burst_ratio` is 1 for random loss."""
    percent = 100.0 * max(loss, 0.0)
    return BEST - (ie + (95.0 - ie) * percent / (percent / max(burst_ratio, 1.0) + bpl))


def mos(r: float) -> float:
    """Mean opinion score of a rating (G.107 annex B), 1–4.5."""
    if r <= 0:
        return 1.0
    if r >= 100:
        return 4.5
    return max(1.0, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)


def burst_ratio(loss: float, runs: int, lost: int) -> float:
    """Mean length of the runs of lost packets against what random loss would give, 1 / (1 − loss) (G.107 7.5)."""
    return max(1.0, lost / runs * (1.0 - loss)) if runs else 1.0


def mos_lq(codec: str | None, loss: float, ratio: float = 1.0) -> float | None:
    """MOS-LQ of a stream, or None for a codec without published figures."""
    figures = IMPAIRMENT.get(codec or "")
    if figures is None:
        return None
    return mos(rating(loss, ratio, *figures))
