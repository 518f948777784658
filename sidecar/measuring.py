"""When each call's packets are looked at: while it lives, and once more when it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from sidecar.analysis.process import AnalysisProcess
from sidecar.figures import Figures
from sidecar.net.clock import mono
from sidecar.session import Session

ANALYSIS_PERIOD: Final = 0.4
"""Seconds between two looks of the analysis at what the tap holds."""
ANALYSIS_SHARE: Final = 32
"""Calls that are looked at, or whose final figures are asked for, in one request: the other calls wait for its answer."""
CONCLUDE_AFTER: Final = 0.05
"""Seconds from a call's end to its final figures: calls that end together share a request."""


class Measuring:
    """Takes what the sessions hold to the analysis, and its figures to the sessions."""

    def __init__(
        self, sessions: Mapping[str, Session], analysis: AnalysisProcess, figures: Figures, concluded: Callable[[Session], None]
    ) -> None:
        """`concluded` is told of each session that has its final figures, or will get none."""
        self._sessions = sessions
        self._analysis = analysis
        self._figures = figures
        self._concluded = concluded
        self._over: list[Session] = []

    async def look(self) -> None:
        """Let every live call's packets be looked at, until cancelled."""
        while True:
            await asyncio.sleep(ANALYSIS_PERIOD)
            live = [session for session in self._sessions.values() if session.ended is None]
            for first in range(0, len(live), ANALYSIS_SHARE):
                await self._look_at([session for session in live[first : first + ANALYSIS_SHARE] if session.ended is None])

    async def _look_at(self, sessions: list[Session]) -> None:
        work = [(session.call, taken) for session in sessions if (taken := session.work()) or session.audience]
        for call, news in await self._analysis.look(work, mono()):
            if (session := self._sessions.get(call)) is not None:
                session.note(news.turns)
                session.audience.hear(news.audio)
        for session in sessions:
            if session.call in self._analysis.lost:
                session.audience.end()

    def over(self, session: Session) -> bool:
        """A call has ended. Whether it is the first of those that `conclude` is to be begun for."""
        self._over.append(session)
        return len(self._over) == 1

    async def conclude(self) -> None:
        """Final figures for the calls that have ended."""
        await asyncio.sleep(CONCLUDE_AFTER)
        sessions, self._over = self._over, []
        await asyncio.gather(*(session.close_relay() for session in sessions))
        for first in range(0, len(sessions), ANALYSIS_SHARE):  # hundreds at once could take longer than an answer may
            share = sessions[first : first + ANALYSIS_SHARE]
            figures = await self._analysis.finish([session.finished() for session in share])
            for session, result in zip(share, figures, strict=True):
                if result is not None:
                    self._figures.measured(session.call, session.started.route, session.started.kind, result, session.relay_delays)
                session.conclude(result)
                self._concluded(session)
