"""Dialogs: the peer-to-peer state that requests within a call share (RFC 3261 12, 13)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from typing import Final, NamedTuple

from sidecar.sip.errors import MalformedMessage
from sidecar.sip.errors import OutOfOrder as OutOfOrder
from sidecar.sip.fields import NameAddr, name_addr
from sidecar.sip.headers import Headers
from sidecar.sip.message import Request, Response
from sidecar.sip.uri import SipUri

MAX_FORWARDS: Final = "70"
# 12.2: these change the remote target (3311, 6665 and 3515 add to INVITE).
_TARGET_REFRESH: Final = frozenset(("INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER"))


class DialogState(StrEnum):
    """12: early until a final response."""

    EARLY = "early"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"


class DialogKey(NamedTuple):
    """Names a dialog at this end; "" stands for the absent tag of a peer of RFC 2543 (12.1.1)."""

    call_id: str
    local_tag: str
    remote_tag: str


def key_of_request(request: Request) -> DialogKey:
    """The dialog that a received request belongs to: the To tag is ours, whatever socket it came by (12.2.2)."""
    return DialogKey(request.call_id, request.to_tag or "", request.from_tag or "")


def key_of_response(response: Response) -> DialogKey:
    """The dialog that a received response belongs to: the From tag is ours."""
    return DialogKey(response.call_id, response.from_tag or "", response.to_tag or "")


class Dialog:
    """One dialog as one end sees it.

    Invariant: `route_set` never changes once the state is CONFIRMED (12.2); `remote_target` does.
    """

    __slots__ = ("_moved", "call_id", "local", "local_cseq", "remote", "remote_cseq", "remote_target", "route_set", "secure", "state")

    def __init__(
        self,
        call_id: str,
        local: NameAddr,
        remote: NameAddr,
        *,
        remote_target: str,
        route_set: Iterable[str] = (),
        local_cseq: int | None = None,
        remote_cseq: int | None = None,
        state: DialogState = DialogState.EARLY,
        secure: bool = False,
    ) -> None:
        """`remote_target` is a URI as written, `route_set` the Route values from the nearest hop on."""
        self.call_id = call_id
        self.local = local
        self.remote = remote
        self.remote_target = remote_target
        self.route_set = tuple(route_set)
        self.local_cseq = local_cseq
        self.remote_cseq = remote_cseq
        self.state = state
        self.secure = secure
        self._moved: tuple[int, str] | None = None
        """The number of the request that moved the target last, and the target before it."""

    @classmethod
    def uas(cls, request: Request, response: Response) -> Dialog:
        """12.1.1, from the request received and the 101–299 sent to it. MalformedMessage when the request has no usable Contact."""
        return cls.serving(request, response.to_tag, _state_after(response))

    @classmethod
    def serving(cls, request: Request, tag: str | None, state: DialogState = DialogState.EARLY) -> Dialog:
        """The same, from the request alone: `tag` is the one that we answer with."""
        contact, routes = check_usable(request)
        return cls(
            request.call_id,
            request.to.with_tag(tag),
            request.from_,
            remote_target=contact,
            route_set=routes,
            remote_cseq=request.cseq.number,
            state=state,
            secure=request.uri[:5].lower() == "sips:",
        )

    @classmethod
    def uac(cls, request: Request, response: Response) -> Dialog:
        """12.1.2, from the request sent and a 101–299 received.

        Without a Contact (legal in a 1xx) the target is the Request-URI until one comes.
        """
        return cls(
            request.call_id,
            request.from_,
            response.to,
            remote_target=_target(response) or request.uri,
            route_set=_recorded(response),
            local_cseq=request.cseq.number,
            state=_state_after(response),
            secure=request.uri[:5].lower() == "sips:",
        )

    @property
    def local_tag(self) -> str:
        """Our tag."""
        return self.local.tag or ""

    @property
    def remote_tag(self) -> str:
        """The peer's tag."""
        return self.remote.tag or ""

    @property
    def key(self) -> DialogKey:
        """What requests and responses of this dialog are matched by."""
        return DialogKey(self.call_id, self.local_tag, self.remote_tag)

    @property
    def next_hop(self) -> str:
        """The URI that a request is sent to (12.2.1.1): the topmost route, loose or strict, else the remote target.

        8.1.2: before a sips: Request-URI any route counts as sips:, so that nothing of the dialog leaves but by TLS.
        """
        if not self.route_set:
            return self.remote_target
        first = name_addr(self.route_set[0]).uri
        return _secured(first) if self.remote_target[:5].lower() == "sips:" and _is_loose(first) else first

    def request(
        self,
        method: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str | None = None,
        contact: str | None = None,
    ) -> Request:
        """A request within the dialog, with the next CSeq number (12.2.1.1). `contact` is a whole header value; `headers` come last."""
        return self._request(method, self.next_cseq(), headers, body, content_type, contact)

    def next_cseq(self) -> int:
        """Use up one CSeq number, for a request that is built by other means or sent again with credentials (22.2)."""
        self.local_cseq = 1 if self.local_cseq is None else self.local_cseq + 1
        return self.local_cseq

    def ack(
        self, cseq_number: int, *, headers: Iterable[tuple[str, str]] = (), body: bytes = b"", content_type: str | None = None
    ) -> Request:
        """The ACK of a 2xx: a request within the dialog that has the CSeq number of its INVITE (13.2.2.4)."""
        return self._request("ACK", cseq_number, headers, body, content_type, None)

    def accept(self, request: Request) -> None:
        """Let a received request change the dialog (12.2.2). ACK and CANCEL do not. Raises OutOfOrder when a later one was seen before."""
        if request.method in ("ACK", "CANCEL"):
            return
        number = request.cseq.number
        if self.remote_cseq is not None and number < self.remote_cseq:
            raise OutOfOrder(f"CSeq {number} after {self.remote_cseq}")
        self.remote_cseq = number
        if request.method in _TARGET_REFRESH:
            self._moved = (number, self.remote_target)
            self.remote_target = _target(request) or self.remote_target

    def retract(self, request: Request) -> None:
        """A request that `accept` took was refused: the target is again what it was before (RFC 6141 4.6)."""
        if self._moved is not None and self._moved[0] == request.cseq.number:
            self.remote_target = self._moved[1]
            self._moved = None

    def refresh(self, response: Response) -> None:
        """Let a received response to a request of ours change the dialog.

        The first 2xx to INVITE confirms an early dialog and settles its route set (13.2.2.4). Any 2xx to a target refresh request moves the
        target (12.2.1.2), and so does a provisional response while the dialog is early. Everything else changes nothing.
        """
        if response.cseq.method not in _TARGET_REFRESH or response.status >= 300 or self.state is DialogState.TERMINATED:
            return
        early = self.state is DialogState.EARLY
        if response.status < 200 and not early:
            return
        self.remote_target = _target(response) or self.remote_target
        if early and response.status >= 200 and response.cseq.method == "INVITE":
            self.route_set = _recorded(response)
            self.state = DialogState.CONFIRMED

    def confirm(self) -> None:
        """At the server's end: our 2xx is on its way."""
        if self.state is DialogState.EARLY:
            self.state = DialogState.CONFIRMED

    def terminate(self) -> None:
        """BYE was sent or received, or the INVITE failed."""
        self.state = DialogState.TERMINATED

    def _request(
        self, method: str, number: int, extra: Iterable[tuple[str, str]], body: bytes, content_type: str | None, contact: str | None
    ) -> Request:
        uri, routes = self._path()
        headers = Headers()
        for route in routes:
            headers.add("Route", route)
        headers.add("Max-Forwards", MAX_FORWARDS)
        headers.add("From", str(self.local))
        headers.add("To", str(self.remote))
        headers.add("Call-ID", self.call_id)
        headers.add("CSeq", f"{number} {method}")
        if contact is not None:
            headers.add("Contact", contact)
        for name, value in extra:
            headers.add(name, value)
        if content_type is not None:
            headers.set("Content-Type", content_type)
        return Request(method, uri, headers, body)

    def _path(self) -> tuple[str, tuple[str, ...]]:
        """Request-URI and Route values (12.2.1.1)."""
        if not self.route_set:
            return _as_request_uri(self.remote_target), ()
        first = name_addr(self.route_set[0]).uri
        if _is_loose(first):
            return _as_request_uri(self.remote_target), self.route_set
        # A strict router of RFC 2543 wants itself in the Request-URI and the target at the end of the route.
        return _as_request_uri(first), (*self.route_set[1:], f"<{self.remote_target}>")


def check_usable(request: Request) -> tuple[str, tuple[str, ...]]:
    """Contact's URI and route set of a request that is to begin a dialog; MalformedMessage when a later request could fail on either."""
    contact = _target(request)
    if contact is None:
        raise MalformedMessage("missing contact")
    return contact, _checked(request.headers.values("record-route"))


def _state_after(response: Response) -> DialogState:
    return DialogState.EARLY if response.status < 200 else DialogState.CONFIRMED


def _target(message: Request | Response) -> str | None:
    """The Contact's URI; None without a usable one, which leaves a target as it is."""
    try:
        contact = message.contact
    except MalformedMessage:
        return None
    return None if contact is None or contact.uri == "*" else contact.uri


def _recorded(response: Response) -> tuple[str, ...]:
    """12.1.2: the client's route set is the Record-Route in reverse. What cannot be read is left out: an answered call is not given up."""
    return tuple(route for route in reversed(response.headers.values("record-route")) if _is_readable(route))


def _is_readable(route: str) -> bool:
    try:
        name_addr(route)
    except MalformedMessage:
        return False
    return True


def _checked(routes: list[str]) -> tuple[str, ...]:
    """Record-Route of a request, or MalformedMessage, so that no request of the dialog can fail on it later."""
    for route in routes:
        name_addr(route)
    return tuple(routes)


def _is_loose(uri: str) -> bool:
    try:
        return SipUri.parse(uri).param("lr") is not None
    except MalformedMessage:
        return True  # no SIP URI, so no strict router of RFC 2543 either


def _secured(uri: str) -> str:
    try:
        return str(replace(SipUri.parse(uri), scheme="sips"))
    except MalformedMessage:
        return uri


def _as_request_uri(uri: str) -> str:
    """A URI as its writer spelt it, but for what may not stand in a Request-URI."""
    try:
        parsed = SipUri.parse(uri)
    except MalformedMessage:
        return uri  # of another scheme, whose rules are not ours
    allowed = parsed.for_request_line()
    return uri if allowed is parsed else str(allowed)
