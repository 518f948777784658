"""What a listener would have noticed of a call's audio, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from control.contract.call import Finding, Media, Stream
from sidecar.turns.spans import Span, total

_SHORTEST_MS: Final = 3000.0
"""A shorter call says nothing about audio that did not come."""
_FOREIGN: Final = 10
"""Fewer may be a party that sends before its address is known."""
_STOPPED_MS: Final = 5000.0
_LOSS_PCT: Final = 3.0
"""From about here on listeners complain, even where loss is concealed (G.113 appendix I)."""


def findings(media: Media, duration: float, holds: list[Span], silent: dict[str, bool], last: dict[str, float | None]) -> list[Finding]:
    """`duration` and `last` (the newest packet of `caller` and `agent`) in ms of call time; `silent`: nothing was heard of a party."""
    listened = duration - total(holds)
    streams = {"caller": media.caller, "agent": media.agent}
    found = list(_missing(streams, listened))
    if listened >= _SHORTEST_MS:
        for name, stream in streams.items():
            found += _of_party(name, stream, duration, holds, silent[name], last[name])
    if media.refused >= _FOREIGN:
        found.append(
            Finding(
                name="foreign_source",
                detail=f"{media.refused} packets came from an address that was neither negotiated nor seen before, and went nowhere",
            )
        )
    if media.tap_dropped:
        detail = f"the analysis missed {media.tap_dropped} packets, all of which were relayed: figures may be off"
        found.append(Finding(name="tap_dropped", detail=detail))
    return found


def _missing(streams: dict[str, Stream], listened: float) -> Iterator[Finding]:
    """Audio in one direction, or in none."""
    if listened < _SHORTEST_MS:
        return
    sent = {name: stream.packets for name, stream in streams.items()}
    seconds = f"{listened / 1000:.0f} s"
    if not any(sent.values()):
        yield Finding(name="no_audio", detail=f"neither party sent any audio in {seconds}: look for a firewall, or for addresses in SDP")
    elif not all(sent.values()):
        mute, other = sorted(sent, key=lambda name: sent[name])
        yield Finding(
            name="one_way_audio",
            detail=f"the {mute} sent no audio in {seconds} while the {other} sent {sent[other]} packets: the {other} heard nothing",
        )


def _of_party(name: str, stream: Stream, duration: float, holds: list[Span], silent: bool, last: float | None) -> Iterator[Finding]:
    if not stream.packets:
        return
    if not stream.analysed:
        detail = f"the {name}'s codec {stream.codec} is relayed untouched and not analysed, as SRTP is: no turns can be told"
        yield Finding(name="not_analysed", detail=detail)
    elif silent:
        yield Finding(name="only_silence", detail=f"the {name} sent {stream.packets} packets in which nothing was to be heard")
    held_at_end = any(hold.end >= duration - 1.0 for hold in holds)
    if last is not None and duration - last > _STOPPED_MS and not held_at_end:
        detail = f"the {name}'s packets stopped {(duration - last) / 1000:.0f} s before the call ended"
        yield Finding(name="audio_stopped", detail=detail)
    if stream.loss_pct >= _LOSS_PCT:
        detail = f"{stream.loss_pct:.1f} % of the {name}'s packets never came"
        yield Finding(name="loss", detail=detail)
