"""The test call itself: INVITE with digest, answer, a few packets of silence, and a polite end."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from sidecar.clocks import Mono
from sidecar.identity.digest import Credentials, DigestClient, Refusal
from sidecar.net.clock import mono
from sidecar.net.udp import SipSocket
from sidecar.sip import layer as ly
from sidecar.sip.dialog import Dialog
from sidecar.sip.errors import MalformedMessage
from sidecar.sip.flow import Flow
from sidecar.sip.headers import Headers
from sidecar.sip.message import Request, Response
from sidecar.sip.targets import literal_of
from sidecar.sip.uri import SipUri
from sidecar.verify import judge, offer
from sidecar.verify.caller import ALLOW, Caller, Events, outside
from sidecar.verify.findings import Finding, finding
from sidecar.verify.reach import udp_closed
from sidecar.verify.steps import Outcome

GOODBYE_S = 4.0
"""For the final response after a CANCEL, and for the answer to a BYE."""
LISTEN_S = 1.0
"""How long the agent is given to send its first packet."""
_SILENT_PACKETS = 5
_REFRESHED = ("authorization", "proxy-authorization")


@dataclass(slots=True)
class Placed:
    """What became of the INVITE. Exactly one of `answer` and `finding` is set."""

    statuses: list[str] = field(default_factory=list)
    """Every response, as in `180 Ringing`."""
    facts: list[tuple[str, str]] = field(default_factory=list)
    answer: Response | None = None
    dialog: Dialog | None = None
    finding: Finding | None = None
    silent: bool = False
    """Nothing at all came back."""
    challenged: bool = False


class Attempt:
    """One call. `place`, then if it was answered `listen` and `end`."""

    def __init__(self, caller: Caller, uri: str, from_user: str, credentials: Credentials | None, edge_codecs: tuple[str, ...]) -> None:
        self.call_id = secrets.token_hex(16)
        self._caller = caller
        self._uri = uri
        self._from_user = from_user
        self._credentials = credentials
        self._edge_codecs = edge_codecs
        self._digest = DigestClient(credentials)
        self._realm = ""
        self._request = Request("INVITE", uri)
        self._packets: list[Mono] = []
        self._first_packet = asyncio.Event()
        self._media_refused = asyncio.Event()
        self._voice: SipSocket | None = None
        self._flow = caller.flow()

    # -- placing -----------------------------------------------------------------------------------------------------------------------

    async def place(self, patience: float, origin: str, headers: Iterable[tuple[str, str]] = ()) -> Placed:
        """Send the INVITE and wait for its end, `patience` seconds after each challenge; a call that rings on is cancelled."""
        caller = self._caller
        self._voice = await SipSocket.open((caller.address[0], 0), self._heard, lambda _flow: self._media_refused.set())
        more = (("Allow", ALLOW), ("Content-Type", offer.TYPE), *headers)
        self._request = outside("INVITE", self._uri, caller, self._from_user, self.call_id, 1, more)
        self._request.body = offer.describe(self._voice.local)
        placed = Placed()
        while True:
            began = mono()
            tx, events = caller.request(self._request)
            final = await self._final(placed, events, began, patience)
            if final is None:
                await self._give_up(placed, tx, events, patience)
                return placed
            if isinstance(final, str):
                placed.finding = self._lost(final, origin, heard=bool(placed.statuses))
                return placed
            if final.status in (401, 407):
                if self._authorised(placed, final):
                    continue
            elif final.status < 300:
                self._confirm(placed, final)
            else:
                placed.finding = judge.refusal(final, self._asked())
            return placed

    async def _final(self, placed: Placed, events: Events, began: Mono, patience: float) -> Response | str | None:
        """The final response, or why the transport failed; None when none came in time."""
        try:
            async with asyncio.timeout(patience):
                while True:
                    match await events.get():
                        case ly.ResponseReceived(_, response):
                            placed.statuses.append(f"{response.status} {response.reason}")
                            after = f" after {(mono() - began) * 1000:.0f} ms"
                            placed.facts.append(("answer", placed.statuses[-1] + after + _early(response)))
                            if response.status >= 200:
                                return response
                        case ly.TransportFailed(_, detail):
                            return detail
                        case ly.TimedOut():
                            return None
        except TimeoutError:
            return None

    def _authorised(self, placed: Placed, response: Response) -> bool:
        """Whether the challenge was answered; if not, why is in `placed.finding`."""
        request = self._request
        answered = self._digest.answer(response, method="INVITE", uri=request.uri, body=request.body, cnonce=self._caller.ids.token())
        if isinstance(answered, Refusal):
            placed.finding = _refused(answered)
            return False
        self._realm = answered.realm
        placed.challenged = True
        placed.facts.append(("digest", f'realm "{answered.realm}", {answered.algorithm}'))
        headers = Headers([(name, value) for name, value in request.headers.items() if name.lower() not in _REFRESHED])
        headers.set("CSeq", f"{request.cseq.number + 1} INVITE")
        for name, value in answered.headers:
            headers.add(name, value)
        self._request = Request("INVITE", request.uri, headers, request.body)
        return True

    def _confirm(self, placed: Placed, response: Response) -> None:
        placed.answer = response
        placed.dialog = dialog = Dialog.uac(self._request, response)
        self._digest.settle(response, method="INVITE")
        self._flow = self._flow_to(dialog)
        self._caller.acknowledge(dialog.ack(self._request.cseq.number, headers=self._digest.sent("INVITE")), response, self._flow)

    def _flow_to(self, dialog: Dialog) -> Flow:
        """Where the peer wants to be addressed (12.2.1.1); the way of the INVITE where that cannot be gone."""
        own = self._caller.flow()
        try:
            next_hop = SipUri.parse(dialog.next_hop)
        except MalformedMessage:
            return own
        literal = literal_of(next_hop.host)
        if own.reliable or literal is None or judge.narrower(literal, own.remote[0]):
            return own
        return self._caller.flow((literal, next_hop.port or 5060))

    # -- giving up ---------------------------------------------------------------------------------------------------------------------

    async def _give_up(self, placed: Placed, tx: ly.TxId, events: Events, patience: float) -> None:
        seconds = f"{patience:g}"
        if not placed.statuses:
            placed.silent = True
            placed.finding = finding("silence", target=self._caller.target, seconds=seconds, local=self._caller.address[0])
            return
        self._caller.cancel(tx)
        final = await self._final(placed, events, mono(), GOODBYE_S)
        if isinstance(final, Response) and final.status < 300:
            self._confirm(placed, final)  # the answer and the CANCEL crossed: it is hung up at once
            return
        ending = f"{final.status} {final.reason}" if isinstance(final, Response) else "without an answer to that"
        before = placed.statuses[:-1] if isinstance(final, Response) else placed.statuses
        if any(not status.startswith(("100", "401", "407")) for status in before):
            placed.finding = finding("rings_on", seconds=seconds, ending=ending)
        else:
            placed.finding = finding("stuck", status=before[-1], seconds=seconds)

    def _lost(self, detail: str, origin: str, *, heard: bool) -> Finding:
        target = self._caller.target
        if target.transport == "udp" and not heard:
            return udp_closed(target, origin)
        if "certificate required" in detail:
            return finding("tls_client_certificate")
        return finding("connection_lost", target=target, why=detail)

    def _asked(self) -> judge.Asked:
        user = SipUri.parse(self._uri).user or ""
        name = self._credentials.username if self._credentials is not None else ""
        return judge.Asked(user, self._caller.address[0], self._realm, name, self._edge_codecs)

    # -- the answered call -------------------------------------------------------------------------------------------------------------

    async def listen(self, judged: judge.Judged) -> tuple[Outcome, str, Finding | None]:
        """Send a few packets of silence and hear whether media comes back: how it went, in words, and what is wrong."""
        voice = self._voice
        if voice is None or judged.audio is None or judged.codec is None:
            return "note", "none was agreed on", None
        remote, ssrc, began = judged.audio.remote, secrets.randbits(32), mono()
        for number in range(_SILENT_PACKETS if remote is not None else 0):
            if remote is not None:
                voice.send(offer.silence(judged.codec, number, ssrc), Flow("udp", voice.local, remote))
            await asyncio.sleep(offer.PTIME_S)
        waiting = [asyncio.ensure_future(event.wait()) for event in (self._first_packet, self._media_refused)]
        await asyncio.wait(waiting, timeout=LISTEN_S, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        where = f"{judged.audio.address}:{judged.audio.port}"
        if self._packets:
            return "ok", f"first packet {max(self._packets[0] - began, 0.0) * 1000:.0f} ms after the answer", None
        if self._media_refused.is_set():
            return "failed", "the port is closed", finding("media_port_closed", address=where)
        return "note", f"none within {LISTEN_S:g} s: the agent lets the caller speak first, or a firewall drops it", None

    async def end(self, dialog: Dialog) -> tuple[str, Finding | None]:
        """Hang up: how that went, and what is wrong with it."""
        if self._caller.hung_up.is_set():
            return "the edge hung up first", None
        answer = await self._bye(dialog, self._flow)
        if isinstance(answer, Response):
            return f"BYE answered {answer.status} {answer.reason}", None
        elsewhere = ""
        if self._flow != self._caller.flow():
            answer = await self._bye(dialog, self._caller.flow())
            elsewhere = ", but to the address that was dialled it was" if isinstance(answer, Response) else ""
        return "BYE not answered", finding("bye_unanswered", contact=dialog.remote_target, elsewhere=elsewhere)

    async def _bye(self, dialog: Dialog, flow: Flow) -> Response | str:
        caller = self._caller
        known = self._digest.authorize("BYE", dialog.remote_target, b"", caller.ids.token())
        answer = await caller.ask(dialog.request("BYE", headers=known), GOODBYE_S, flow)
        if isinstance(answer, Response) and answer.status in (401, 407):
            # An edge that asks again, as many do for each request.
            proof = self._digest.answer(answer, method="BYE", uri=dialog.remote_target, body=b"", cnonce=caller.ids.token())
            if not isinstance(proof, Refusal):
                answer = await caller.ask(dialog.request("BYE", headers=proof.headers), GOODBYE_S, flow)
        return answer

    async def close(self) -> None:
        """Free the media port."""
        if self._voice is not None:
            self._voice.close()
            await asyncio.sleep(0)  # the loop closes a socket in its next turn

    def _heard(self, _data: bytes, _flow: Flow) -> None:
        self._packets.append(mono())
        self._first_packet.set()


def _early(response: Response) -> str:
    """What a provisional response says besides its status."""
    if 100 < response.status < 200 and response.body:
        return f", early media in {', '.join(judge.codecs_of(response)) or 'no known codec'}"
    return ""


def _refused(refusal: Refusal) -> Finding:
    realm = judge.quoted(refusal.realm)
    match refusal.kind:
        case "no_credentials":
            return finding("credentials_missing", status=refusal.status, realm=realm, algorithm=refusal.algorithm)
        case "refused":
            return finding("credentials_refused", status=refusal.status, realm=realm)
        case "unsupported":
            return finding("digest_unsupported", status=refusal.status, why=refusal.detail)
