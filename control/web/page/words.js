// What the closed sets of the API mean, in words for a person: outcomes, reasons, findings, and what to change.

export const OUTCOMES = {
  linked: { sign: "✓", tone: "good", says: "The agent's report carried the call's identity, and the evaluator took it." },
  repaired: { sign: "↻", tone: "good", says: "The report lacked the identity; Trunkside knew the call and put it in." },
  conflict: { sign: "!", tone: "bad", says: "More than one call fits the report, and Trunkside does not guess." },
  missing: { sign: "✕", tone: "bad", says: "The call was a simulation, and no report of it came." },
  unlinked: { sign: "?", tone: "bad", says: "The report fits no call." },
  pending: { sign: "…", tone: "wait", says: "The report is not settled yet." },
  not_applicable: { sign: "–", tone: "none", says: "No report is owed for this call." },
};

export const MEND_LINK = {
  linked: null,
  repaired:
    "Let the agent hand the identity through by itself: read X-Sip-Call-Id (or X-CID) from the INVITE, or ask GET /v1/current-call, and set sip_call_id in the report. Until then this repair stands in.",
  conflict:
    "Let the agent's report carry an id of the call: sip_call_id, the platform's own call id, or X-Correlation-Id in sip_headers. Numbers and times alone fit several calls at once.",
  missing:
    "See whether the agent's SDK posts to this control (its base URL), whether the agent ended its session, and whether a delivery below was refused. A closed platform posts nothing: switch wire_only on.",
  unlinked: "See that the call came through a sidecar of this control, and that its trace has arrived.",
  pending: null,
  not_applicable: null,
};

export const HOPS = {
  received: "the caller's INVITE brought it",
  carried: "it left towards the agent",
  echoed: "the agent's report had it",
  accepted: "the evaluator took the report",
};

/** What to do about a call that ended so: the reasons are those of logs and metrics. */
export const MEND_REASON = {
  rejected:
    "The agent's edge decided this. See the cited answer: its Reason or Warning header says more, and the edge's own log knows the rest.",
  "credentials-refused":
    "Compare user name and password of the route with those of the trunk at the edge; see that the realm in the challenge is the expected one.",
  "credentials-missing": "Set username and password_file on the route: the edge challenges, and there was nothing to answer with.",
  "upstream-silent":
    "See that the target of the route is right, and that UDP from the sidecar reaches it. trunkside verify names the step that fails.",
  "upstream-unreachable":
    "Nothing listens at the route's target, or a firewall refuses: see host, port and transport. trunkside verify names the step that fails.",
  "no-route": "Add a route whose match fits this request: nothing is ever dialled that no route names.",
  "recipient-not-allowed": "Add the host to the allow list of the route, if the agent may dial it.",
  "identity-rejected": "The route's identity policy refuses such a claim. See the findings below.",
  "ack-missing": "The 200 OK or its ACK got lost: look at the Contact and Record-Route of the 200 OK, and at NAT between the two.",
  "peer-gone": "One side vanished in the middle: its process ended, or its network did.",
  cancelled: "The caller gave up first. If it rang long, look at how soon the agent answers.",
  "no-media-ports": "Widen media.ports of the sidecar, or spread the calls over more of them.",
  "no-media-relay": "See that an rtpengine of media.rtpengine.servers runs and takes calls: GET /v1/state on the admin port says what each last said.",
  "sdp-unusable": "See the offer in the INVITE: it has no audio that could be relayed.",
  malformed: "See the cited INVITE: what is wrong with it is said above.",
  draining: "The sidecar was being stopped. The caller should try again, at another one.",
  drained: "The sidecar was stopped before this call had ended: give it a longer deadline to drain.",
  loop: "The target of a route is the sidecar itself.",
  "too-many-hops": "Something in front sends the call in circles.",
  "extension-unsupported": "The caller insists, by Proxy-Require, on what a proxy in this place would have to do. Have it not insist.",
  interrupted: "The sidecar's process died during the call: its log and the kernel's tell why.",
  "hung-up": "Somebody ended it on purpose: the audit log has who.",
};

export const BARGE_INS = {
  barge_in: "barge-in",
  slow: "slow barge-in",
  failed: "failed barge-in",
  backchannel: "backchannel",
  terminal_overlap: "overlap at the end",
};
export const BARGE_SAYS = {
  barge_in: "the caller spoke up and the agent stopped",
  slow: "the agent stopped only after the caller had finished",
  failed: "the agent went on regardless",
  backchannel: "a short word of the caller, no wish to interrupt",
  terminal_overlap: "the caller began as the agent was ending",
};

export const RULES = {
  a_leg_call_id: "the Call-ID of the caller's leg",
  b_leg_call_id: "the Call-ID of the agent's leg",
  correlation_id: "the correlation id",
  platform_id: "the platform's own call id",
  recipient: "the recipient",
  to_from_time: "To, From and the time",
  wire_only: "Trunkside's own report, since the agent sends none",
};
