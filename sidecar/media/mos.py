"""The E-model of ITU-T G.107 with every term at its default but the codec's, the loss's and the delay's.

MOS-LQ leaves the delay out and needs RTP alone: listening quality. MOS-CQ, conversational quality, needs a round trip known on both legs.
"""

from __future__ import annotations

from math import exp, log2, log10, pow, sqrt
from typing import Final

BEST: Final = 93.2
"""R with all parameters at the defaults of G.107 table 3."""
_SIGNAL_TO_NOISE: Final = 94.768821
"""Ro of equation 7-2 at the defaults."""
_SIMULTANEOUS: Final = 1.413568
"""Is of equation 7-8 at the defaults."""
_NOISE: Final = -61.179214
"""No of equation 7-3 at the defaults, dBm0p."""
_RLR: Final = 2.0
_TELR: Final = 65.0
_WEPL: Final = 110.0
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


def delay_impairment(one_way_ms: float) -> float:
    """Id after G.107 7.4 of an absolute one-way delay: talker echo, listener echo and the delay itself, each echo loss at its default."""
    t = max(one_way_ms, 0.0)
    terv = _TELR - 40 * log10((1 + t / 10) / (1 + t / 150)) + 6 * exp(-0.3 * t * t)
    roe, re = -1.5 * (_NOISE - _RLR), 80 + 2.5 * (terv - 14)
    talker = ((roe - re) / 2 + sqrt((roe - re) ** 2 / 4 + 100) - 1) * (1 - exp(-t))
    rle = 10.5 * (_WEPL + 7) * pow(2 * t + 1, -0.25)
    listener = (_SIGNAL_TO_NOISE - rle) / 2 + sqrt((_SIGNAL_TO_NOISE - rle) ** 2 / 4 + 169)
    x = log2(t / 100) if t > 100 else 0.0
    absolute = 25 * (pow(1 + x**6, 1 / 6) - 3 * pow(1 + (x / 3) ** 6, 1 / 6) + 2)
    return talker + listener + absolute


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


def mos_cq(codec: str | None, loss: float, ratio: float, one_way_ms: float) -> float | None:
    """MOS-CQ of a stream whose way from mouth to ear takes so long, or None for a codec without published figures."""
    figures = IMPAIRMENT.get(codec or "")
    if figures is None:
        return None
    lossy = BEST - rating(loss, ratio, *figures)
    return mos(_SIGNAL_TO_NOISE - _SIMULTANEOUS - delay_impairment(one_way_ms) - lossy)


def mos_lq(codec: str | None, loss: float, ratio: float = 1.0) -> float | None:
    """MOS-LQ of a stream, or None for a codec without published figures."""
    figures = IMPAIRMENT.get(codec or "")
    if figures is None:
        return None
    return mos(rating(loss, ratio, *figures))
