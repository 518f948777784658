"""Those who have not proved who they are, before the door: what is read of them, and what they are answered.

To a stranger every answer is sent once and forgotten (RFC 3261 26.3.2.4): no transaction, no 100, no repetition. Over UDP, where its
address may be anybody's, no answer is longer than the question. So a flood costs no memory and is aimed at nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from sidecar.b2bua.allowance import Tokens
from sidecar.b2bua.door import Reply, Sender, identify
from sidecar.b2bua.effects import Effect, Refused, SendSip
from sidecar.b2bua.registry import Registry
from sidecar.b2bua.routes import within_any
from sidecar.b2bua.settings import Settings
from sidecar.clocks import Mono
from sidecar.identity.classify import Network
from sidecar.sip import layer as ly
from sidecar.sip.dialog import key_of_request
from sidecar.sip.flow import Flow
from sidecar.sip.ids import Ids
from sidecar.sip.message import Request

OVER_RATE = "over-rate"
_SCANNERS = (
    "friendly-scanner",
    "sipvicious",
    "sipcli",
    "sip-scan",
    "smap",
    "sundayddr",
    "iwar",
    "sivus",
    "gulp",
    "vaxsipuseragent",
    "pplsip",
    "elzapateador",
)
"""How the common scanners call themselves, in lower case. Whoever hides it is judged as any other stranger."""
_MOST_REMEMBERED = 1024
_LONGEST_METHOD = 32
"""Characters of a stranger's method that are logged."""


class Strangers:
    """Asked about whatever comes from a source that is not trusted and belongs to nothing that is under way."""

    def __init__(
        self, layer: ly.TransactionLayer, registry: Registry, ids: Ids, counts: Counter[str], emit: Callable[[Effect], None]
    ) -> None:
        self.tokens = Tokens()
        self._layer = layer
        self._registry = registry
        self._ids = ids
        self._counts = counts
        self._emit = emit
        self._networks: tuple[Network, ...] = ()
        self._trusted: dict[str, bool] = {}
        """Whether a host lies in `_networks`."""

    def hears(self, flow: Flow, settings: Settings, now: Mono) -> bool:
        """Whether to read what came. Costs next to nothing, whatever came."""
        if self.tokens.hears(flow.remote[0], settings.allowance, now):
            return True
        self._counts[OVER_RATE] += 1
        return False

    def admits(self, request: Request, data: bytes, flow: Flow, settings: Settings, now: Mono) -> Sender | None:
        """Who sent a request that begins something; None when it was dealt with here."""
        source = flow.remote[0]
        if is_scanner(request):
            self.pays(flow, settings, now, "scanner", request.method)
            return None
        if request.to_tag is not None or request.method in ("ACK", "CANCEL"):
            # Of something that is not, or no longer, there. An ACK is never answered.
            if self.pays(flow, settings, now) and request.method != "ACK":
                self._answer(request, data, Reply(481), flow)
            self._counts["no-dialog"] += 1
            return None
        sender = identify(request, source, settings, self._ids, now)
        if isinstance(sender, Sender):
            self.tokens.repay(source, settings.allowance, now)
            return sender
        if sender.refused is not None:
            self._counts[sender.refused] += 1
        if self.pays(flow, settings, now, sender.refused, request.method):
            self._answer(request, data, sender, flow)
        return None

    def concern(self, request: Request, flow: Flow) -> bool:
        """Whether a request begins something, and is no part of what is under way."""
        if request.to_tag is not None and key_of_request(request) in self._registry.dialogs:
            return False
        return not self._layer.knows(request, flow)

    def pays(self, flow: Flow, settings: Settings, now: Mono, refused: str | None = None, method: str = "") -> bool:
        """Take a token, and tell of the refusal as long as there are any: a flood fills no log."""
        left = self.tokens.spend(flow.remote[0], settings.allowance, now)
        if left is None:
            self._counts[OVER_RATE] += 1
            return False
        if refused is not None:
            self._emit(Refused(refused, flow.remote, method[:_LONGEST_METHOD]))
        if left < 1:
            self._emit(Refused(OVER_RATE, flow.remote, method[:_LONGEST_METHOD]))
        return True

    def trusts(self, flow: Flow, settings: Settings) -> bool:
        """Whether the source is one of those whom nothing is asked. Remembered, since it is asked of every message."""
        if settings.trusted is not self._networks or len(self._trusted) >= _MOST_REMEMBERED:
            self._networks, self._trusted = settings.trusted, {}
        host = flow.remote[0]
        known = self._trusted.get(host)
        if known is None:
            known = self._trusted[host] = within_any(host, settings.trusted)
        return known

    def _answer(self, request: Request, data: bytes, reply: Reply, flow: Flow) -> None:
        # The first challenge is the stronger one, and where two do not fit it may go alone.
        for headers in (reply.headers, reply.headers[:1]):
            answer = ly.answer_once(request, data, reply.status, headers, flow)
            if flow.reliable or len(answer.data) <= len(data):
                self._emit(SendSip(answer.data, answer.flow))
                return
        self._counts["unanswered"] += 1


def is_scanner(request: Request) -> bool:
    """Whether a request says itself that it comes from a scanner."""
    name = (request.headers.get("User-Agent") or "").lower()
    return any(scanner in name for scanner in _SCANNERS)
