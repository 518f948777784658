"""Session timers on two legs (RFC 4028): what each leg agreed to, who refreshes it, and when it is over.

Where both ends know the timer, its headers cross and the ends refresh each other through us; where only one does, we are its peer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from sidecar.clocks import Mono
from sidecar.sip.headers import Headers

Refresher = Literal["uac", "uas"]
TIMER: Final = "timer"
REFRESHING: Final = frozenset({"INVITE", "UPDATE"})
"""The methods that refresh a session (7.4)."""
SMALLEST: Final = 90
"""Seconds: what no Min-SE may be below (5)."""
_EXPIRES = re.compile(r"\s*([0-9]{1,10})\s*(;.*)?", re.DOTALL)
_REFRESHER = re.compile(r";\s*refresher\s*=\s*\"?(uac|uas)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Expires:
    """A Session-Expires value: seconds, and who is to refresh (None: not said)."""

    seconds: int
    refresher: Refresher | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What one leg agreed to. `ours`: no one but us refreshes it."""

    interval: int
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Agreement:
    """What follows from the 2xx to a request that crossed. `near` is the leg that asked, `far` the one that answered."""

    near: Terms | None = None
    far: Terms | None = None
    added: tuple[tuple[str, str], ...] = ()
    """Headers for the answer to the near leg: there we are the one who takes part in the timer."""
    strip: bool = False
    """The timer of the far leg is between it and us: the near leg hears nothing of it."""


NOTHING: Final = Agreement()
"""No timer on either leg: the ordinary call."""


@dataclass(slots=True)
class LegTimer:
    """A running timer of one leg; all times follow from when it was last refreshed."""

    terms: Terms
    refreshed_at: Mono
    refresh_at: Mono | None
    """When we refresh, or try again; None where that is not ours to do, or while it is under way."""

    @classmethod
    def start(cls, terms: Terms, now: Mono) -> LegTimer:
        """Section 10: half of the interval is when to refresh."""
        return cls(terms, now, Mono(now + terms.interval / 2) if terms.ours else None)

    @property
    def expires_at(self) -> Mono:
        """Section 10: who waits for a refresh ends the session a little before the refresher would: a third, at most 32 s."""
        early = 0.0 if self.terms.ours else min(32.0, self.terms.interval / 3)
        return Mono(self.refreshed_at + self.terms.interval - early)

    @property
    def due(self) -> Mono:
        """When something is to be done about it."""
        return self.expires_at if self.refresh_at is None else min(self.refresh_at, self.expires_at)


def expires_of(headers: Headers) -> Expires | None:
    """The Session-Expires of a message; None without a readable one."""
    value = headers.get("Session-Expires")
    found = _EXPIRES.fullmatch(value) if value is not None else None
    if found is None:
        return None
    refresher = _REFRESHER.search(found[2] or "")
    return Expires(int(found[1]), None if refresher is None else ("uac" if refresher[1].lower() == "uac" else "uas"))


def min_se(headers: Headers) -> int | None:
    """The Min-SE of a message."""
    found = _EXPIRES.fullmatch(headers.get("Min-SE") or "")
    return None if found is None else int(found[1])


def lists(headers: Headers, option: str, *names: str) -> bool:
    """Whether one of the headers `names` (Supported, Require …) has this option tag."""
    return any(tag.strip().lower() == option for name in names for value in headers.all(name) for tag in value.split(","))


def offers(headers: Headers, option: str) -> bool:
    """Whether the sender of a request can do `option`."""
    return lists(headers, option, "Supported", "Require")


def too_small(headers: Headers, minimum: int) -> bool:
    """Section 9: an interval below ours is refused with 422, provided that whoever asks would understand that."""
    asked = expires_of(headers)
    return asked is not None and asked.seconds < minimum and offers(headers, TIMER)


def asking(interval: int, refresher: Refresher | None = None, minimum: int | None = None) -> tuple[tuple[str, str], ...]:
    """The headers of a request of ours that asks for a timer. `minimum`: the largest Min-SE that the dialog has seen (7.4)."""
    floor = max(minimum or 0, SMALLEST)
    seconds = max(interval, floor)
    said = f"{seconds};refresher={refresher}" if refresher else str(seconds)
    headers = (("Supported", TIMER), ("Session-Expires", said))
    return headers if minimum is None else (*headers, ("Min-SE", str(floor)))


def agree(near: Headers, sent: Headers, answer: Headers, wanted: int | None = None) -> Agreement:
    """What a 2xx means for both legs (table 2 of section 9, once for each leg).

    `near` is the request as it came, `sent` as it left on the far leg, `answer` its 2xx; `wanted` the interval that we ask for ourselves.
    """
    asked, granted = expires_of(near), expires_of(answer)
    if asked is None and granted is None and wanted is None:
        return NOTHING
    # A proxy may add Session-Expires for who cannot do timers, but never make that one the refresher (8.1).
    able = offers(near, TIMER) or (asked is not None and asked.refresher == "uac")
    if granted is not None:
        terms = Terms(granted.seconds)
        if able:
            return Agreement(terms, terms)
        return Agreement(far=Terms(granted.seconds, ours=granted.refresher != "uas"), strip=offers(sent, TIMER))
    if asked is not None:
        seconds = asked.seconds
    elif wanted is not None and able:
        # 9: what we ask for in the answer is not below the Min-SE of the request.
        seconds = max(wanted, min_se(near) or 0)
    else:
        return NOTHING
    # Who asks for a timer and can do it refreshes by default; for anybody else that falls to us.
    refresher: Refresher = ((asked.refresher or "uac") if asked is not None else "uas") if able else "uas"
    added = [("Session-Expires", f"{seconds};refresher={refresher}")]
    if able:
        added.insert(0, ("Require", TIMER))
    return Agreement(Terms(seconds, ours=refresher == "uas"), added=tuple(added))


def stripped(headers: list[tuple[str, str]], option: str, *names: str) -> list[tuple[str, str]]:
    """Headers without the ones called `names` (lower case) and without `option` in Require."""
    kept: list[tuple[str, str]] = []
    for name, value in headers:
        lower = name.lower()
        if lower in names:
            continue
        if lower == "require":
            tags = [tag.strip() for tag in value.split(",")]
            left = [tag for tag in tags if tag.lower() != option]
            if not left:
                continue
            value = value if len(left) == len(tags) else ", ".join(left)
        kept.append((name, value))
    return kept
