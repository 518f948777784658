"""What the handlers share, under typed keys."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiohttp import web

from control.api.access import Access, Reporter
from control.api.events import Broker
from control.api.figures import Figures
from control.config import ControlConfig
from control.delivery.workers import Workers
from control.fleet.fleet import Fleet
from control.ingest.facts import Intake
from control.ingest.reports import Sender
from control.listening.peers import Listeners
from control.store import Store
from control.store.live import Listener
from control.store.recordings import Recordings
from control.store.vault import Vault


@dataclass(slots=True)
class State:
    """All parts of a running control. `failures` names background tasks that stopped, with their reason."""

    config: ControlConfig
    store: Store
    vault: Vault
    worker: Workers
    access: Access
    broker: Broker
    failures: dict[str, str]
    intake: Intake
    fleet: Fleet
    recordings: Recordings
    listeners: Listeners
    figures: Figures = field(default_factory=Figures)
    listener: Listener | None = None
    """What hears of other replicas' changes, where there can be others."""

    @property
    def wait_us(self) -> int:
        """How long a report waits for its trace."""
        return int(self.config.enrich_wait_s * 1_000_000)

    def events(self) -> dict[str, object]:
        """State of the live events: the watchers here, and whether other replicas are heard."""
        return self.broker.describe() | ({"replicas": self.listener.describe()} if self.listener is not None else {})

    def sender(self, workspace: str, agent: str, reporter: Reporter) -> Sender:
        """The sender of a report: a token's own credentials win, then configuration, then what the request brought.

        A key is only kept when control has none of its own.
        """
        token = reporter.token
        if token is not None and token.mapping is not None:
            return Sender(token.mapping.workspace, token.mapping.agent, self.access.seal(token))
        evaluator = self.config.evaluator
        sealed = self.vault.seal(reporter.key) if reporter.key is not None and evaluator.key is None else None
        ours = str(evaluator.workspace_id) if evaluator.workspace_id is not None else workspace
        return Sender(ours, evaluator.agent_id if evaluator.agent_id is not None else agent, sealed)


STATE = web.AppKey("state", State)
