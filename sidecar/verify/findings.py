"""What a verification can find: a closed set of causes, each with the sentence that names it and the one that says how to mend it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

CauseName = Literal[
    "uri_invalid",
    "transport_unknown",
    "host_unknown",
    "dns_failed",
    "srv_refuses",
    "unreachable",
    "udp_closed",
    "tcp_refused",
    "tcp_timeout",
    "other_transport",
    "tls_name",
    "tls_expired",
    "tls_expires_soon",
    "tls_untrusted",
    "tls_client_certificate",
    "not_tls",
    "first_target_dead",
    "silence",
    "stuck",
    "rings_on",
    "credentials_missing",
    "credentials_refused",
    "forbidden_with_credentials",
    "digest_unsupported",
    "forbidden",
    "no_such_user",
    "declined",
    "no_common_codec",
    "extension_wanted",
    "redirected",
    "edge_failed",
    "refused",
    "connection_lost",
    "answer_without_sdp",
    "answer_unusable",
    "audio_refused",
    "answer_codec",
    "answer_on_hold",
    "media_address",
    "media_port_closed",
    "contact_missing",
    "contact_address",
    "bye_unanswered",
    "deep_admin",
    "deep_control",
    "deep_not_received",
    "deep_not_simulation",
    "deep_not_carried",
    "deep_not_taken",
    "carriage_none",
    "carriage_too_long",
    "deep_identity",
]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `cause` and `mend` are one sentence each, without a full stop; neither holds a secret."""

    name: CauseName
    cause: str
    mend: str

    def as_json(self) -> dict[str, str]:
        """The three texts."""
        return {"name": self.name, "cause": self.cause, "mend": self.mend}


_WORDS: dict[CauseName, tuple[str, str]] = {
    "uri_invalid": ("{uri} is no SIP URI: {why}", "write it as sip:user@host or sips:user@host:port"),
    "transport_unknown": ("{why}", "use ;transport=udp, ;transport=tcp or ;transport=tls; sips: is TLS only"),
    "host_unknown": (
        "host {host} has no SRV record and no address",
        "check the host for a slip, or publish an A, AAAA or SRV record for it",
    ),
    "dns_failed": ("host {host} could not be looked up: {why}", "check the name servers that this machine uses, then the zone's own"),
    "srv_refuses": (
        "host {host} says in its SRV records that it offers no SIP over {transport}",
        "ask for another transport, as in ;transport={other}",
    ),
    "unreachable": (
        "{target} cannot be reached from here: {why}",
        "check this machine's routes and address families, or dial another address",
    ),
    "udp_closed": (
        "{origin}nothing listens on UDP port {port} of {addr}",
        "start the edge, or give the port that it listens on, as in sip:user@host:5080",
    ),
    "tcp_refused": (
        "{origin}nothing listens on TCP port {port} of {addr}",
        "start the edge, or give the port and transport that it listens on, as in sip:user@host:5080;transport=udp",
    ),
    "tcp_timeout": (
        "{origin}no connection to TCP port {port} of {addr} within {seconds} s",
        "let the firewall pass TCP port {port} from {local}, or check the address",
    ),
    "other_transport": ("the edge speaks {found} only: {tried}, and {found} port {port} answers SIP", "{mend}"),
    "tls_name": (
        "the certificate is not for {name} but for {names}",
        "dial the edge under a name that its certificate has, or have a certificate issued for {name}",
    ),
    "tls_expired": (
        "the certificate is not valid now: it is from {begin} to {end}",
        "install a certificate that is valid, and check the clocks of both sides",
    ),
    "tls_expires_soon": ("the certificate expires in {days} days, on {end}", "renew it before then"),
    "tls_untrusted": (
        "the certificate cannot be trusted: {why}; its issuer is {issuer}",
        "install the intermediate certificates on the edge, or name the issuer's file with --ca",
    ),
    "tls_client_certificate": (
        "the edge wants a certificate of the caller",
        "let it take callers without one, which evaluators do not have",
    ),
    "not_tls": ("TCP port {port} of {addr} is open but does not speak TLS that can be used: {why}", "{mend}"),
    "first_target_dead": (
        "{dead}, the first of {count} targets, does not work ({why}); {target} does",
        "take the dead one out of DNS or bring it back: each call waits for it first",
    ),
    "silence": (
        "no answer at all from {target} within {seconds} s, neither to OPTIONS nor to INVITE",
        "check the address; a firewall or an IP allow-list that does not know {local} looks the same",
    ),
    "stuck": (
        "the edge answered {status} and then nothing for {seconds} s",
        "look at what stands behind the edge: it took the call and did not get it through",
    ),
    "rings_on": (
        "it rang for {seconds} s and nobody answered; the call was cancelled ({ending})",
        "see why the agent does not pick up, or wait longer with --timeout",
    ),
    "credentials_missing": (
        "{status} answered, credentials wanted: the realm is {realm}, {algorithm}",
        "give them with --username and --password-file",
    ),
    "credentials_refused": (
        "{status} answered, credentials refused: the realm is {realm}",
        "check user name and password, and that they belong to this realm",
    ),
    "forbidden_with_credentials": (
        "{status} {reason} answered once credentials were sent: the realm is {realm}{words}",
        "check the password, and that user {user} may call this URI",
    ),
    "digest_unsupported": (
        "{status} answered with a challenge that cannot be met: {why}",
        "let the edge offer digest with MD5 or SHA-256 and qop=auth",
    ),
    "forbidden": (
        "{status} {reason} answered: the edge takes no calls from {local}{words}",
        "put the caller's address on the edge's allow-list, or let it ask for credentials",
    ),
    "no_such_user": (
        "{status} {reason} answered: the edge knows no {user}{words}",
        "check the user part of the URI and the edge's routing of it",
    ),
    "declined": ("{status} {reason} answered: the agent does not take the call{words}", "see whether the agent runs and has a free line"),
    "no_common_codec": (
        "{status} answered, no common codec: {edge}; the evaluator offers {offered} over RTP/AVP{words}",
        "let the edge accept one of them, PCMU best, and unencrypted RTP",
    ),
    "extension_wanted": ("{status} {reason} answered: the edge insists on {what}", "make this extension optional at the edge"),
    "redirected": ("{status} {reason} answered: the edge sends callers to {contact}", "save that URI in place of this one"),
    "edge_failed": (
        "{status} {reason} answered: the edge could not get the call through{words}",
        "look into the edge's log: it is reached, what stands behind it fails",
    ),
    "refused": ("{status} {reason} answered{words}", "look into the edge's log for this Call-ID"),
    "connection_lost": ("the connection to {target} broke: {why}", "look into the edge's log for the reason why it closed the connection"),
    "answer_without_sdp": ("200 answered without a session description", "make the edge describe its media in the answer to an INVITE"),
    "answer_unusable": (
        "200 answered with a session description that cannot be used: {why}",
        "correct the description that the edge writes",
    ),
    "audio_refused": (
        "200 answered, but the audio is refused in its description",
        "let the edge accept the offered audio, or refuse the call with 488",
    ),
    "answer_codec": (
        "200 answered, no common codec: the edge answers with {edge} only; the evaluator offers {offered}",
        "let the edge answer with one of the offered codecs, PCMU best",
    ),
    "answer_on_hold": ("200 answered, but the audio is {direction} from the start", "let the edge answer sendrecv"),
    "media_address": (
        "the answer wants media at {address}, a {kind} address, though the edge was reached at {reached}",
        "set the edge's external (advertised) media address; otherwise calls stay silent",
    ),
    "media_port_closed": (
        "the answer wants media at {address}, and that UDP port is closed",
        "check the edge's media address and that its media process runs",
    ),
    "contact_missing": ("200 answered without a usable Contact", "make the edge add a Contact to its answer: ACK and BYE go there"),
    "contact_address": (
        "the answer's Contact is {contact}, a {kind} address, though the edge was reached at {reached}",
        "set the edge's external (advertised) signalling address; otherwise ACK and BYE do not arrive",
    ),
    "bye_unanswered": (
        "the BYE to {contact} was not answered{elsewhere}",
        "check the Contact that the edge writes and that its port is open to the caller",
    ),
    "deep_admin": ("the sidecar's admin port {url} cannot be asked: {why}", "give the URL of admin.listen with --admin"),
    "deep_control": ("control at {url} cannot be asked: {why}", "give its URL with --control, and a token of scope read with --token-file"),
    "deep_not_received": (
        "the id dies before the sidecar: no call with Call-ID {call_id} was seen there{words}",
        "check that --via is the sidecar whose admin port or control is asked, and that nothing between changes the Call-ID",
    ),
    "deep_not_simulation": (
        "the sidecar takes the call for {kind}, though it carried X-Correlation-Id",
        "set simulation: auto or always on route {route}",
    ),
    "deep_not_carried": ("the id dies in the sidecar: no INVITE left it{words}", "check the target of route {route}"),
    "deep_not_taken": ("the id dies between the sidecar and the edge: {why}", "start the edge, or check the target of route {route}"),
    "carriage_none": (
        "the id dies at the platform: {why}",
        "let the agent ask GET /v1/current-call, or rely on the repair by numbers and time",
    ),
    "carriage_too_long": ("the id dies at the platform: {why}", "choose a preset whose headers fit, or shorten the Call-ID at the caller"),
    "deep_identity": ("the sidecar found the identity odd: {why}", "see the verdict's findings in control"),
}
WORDS: Mapping[CauseName, tuple[str, str]] = MappingProxyType(_WORDS)
"""Cause and mend of each name, with the facts to fill in between braces."""
NAMES: tuple[CauseName, ...] = get_args(CauseName)


def finding(name: CauseName, /, **facts: object) -> Finding:
    """The finding with its facts filled in. Raises KeyError when a fact is missing."""
    cause, mend = WORDS[name]
    return Finding(name, cause.format(**facts), mend.format(**facts))
