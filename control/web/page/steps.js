// From messages, notes and turns to the rows of the ladder, in order of time. Pure.

import { latencies } from "./figures.js";
import { head, label } from "./sip.js";

/** Milliseconds since the call's first fact at which call time 0 is; null for a call that was not answered. */
export function answeredAt(call, timeline) {
  if (timeline?.answered_ms !== null && timeline?.answered_ms !== undefined) return timeline.answered_ms;
  return call.answered_at ? new Date(call.answered_at) - new Date(call.started_at) : null;
}

/** Messages with copies folded into the first: {at, leg, rightward, label, copies: [ms], message, told, twin}. */
export function arrows(messages) {
  const firsts = new Map();
  const found = [];
  messages.forEach((message, index) => {
    const key = `${message.leg} ${message.direction} ${message.text}`;
    const first = message.retransmission ? firsts.get(key) : undefined;
    if (first) {
      first.copies.push(message.elapsed_ms);
      return;
    }
    const told = head(message.text);
    const arrow = {
      kind: "message",
      at: message.elapsed_ms,
      leg: message.leg,
      rightward: (message.leg === "A") === (message.direction === "in"),
      label: label(told),
      copies: [],
      message,
      told,
      index,
      twin: null,
      again: message.retransmission,
    };
    firsts.set(key, arrow);
    found.push(arrow);
  });
  pairUp(found);
  return found;
}

/** What came in on one leg and left on the other within five seconds is one message on its way through. */
function pairUp(found) {
  const waiting = new Map();
  for (const arrow of found) {
    const key = (leg) => `${leg} ${arrow.told.request} ${arrow.told.status} ${arrow.told.method}`;
    if (arrow.message.direction === "in") {
      waiting.set(key(arrow.leg), arrow);
      continue;
    }
    const source = waiting.get(key(arrow.leg === "A" ? "B" : "A"));
    if (!source || arrow.at - source.at > 5000) continue;
    [arrow.twin, source.twin] = [source, source.twin ?? arrow];
  }
}

/** All rows: messages, rules across (answered, ended), notes, and conversation folded to one row between two messages. */
export function steps(call, messages, timeline) {
  const answered = answeredAt(call, timeline);
  const found = arrows(messages);
  const rows = [...found];
  if (answered !== null) rows.push({ kind: "rule", at: answered, label: "answered: call time 0" });
  for (const note of timeline?.notes ?? [])
    rows.push({ kind: note.kind === "interrupted" ? "rule" : "note", at: note.at_ms, label: note.text });
  rows.sort((a, b) => a.at - b.at || (a.kind === "message" ? 0 : 1) - (b.kind === "message" ? 0 : 1));
  return answered === null ? rows : withTurns(rows, call.turns, answered);
}

function withTurns(rows, turns, answered) {
  const found = [];
  let next = 0;
  const talk = (before) => {
    const these = [];
    while (next < turns.length && answered + turns[next].caller_start_ms < before) these.push(turns[next++]);
    if (!these.length) return;
    const { n, p50, max } = latencies({ turns: these, speech: { response_latency_ms: { n: 0 } } });
    const slow = these.find((turn) => turn.kind === "response" && turn.response_latency_ms === max);
    found.push({ kind: "talk", at: answered + these[0].caller_start_ms, turns: these, n, p50, max, slow });
  };
  for (const row of rows) {
    talk(row.at);
    found.push(row);
  }
  talk(Infinity);
  return found;
}

/** The message that says why a call failed: the last refusal that reached us, on the agent's leg before the caller's. */
export function culprit(call, found) {
  const finals = found.filter((row) => !row.told.request && row.told.method === "INVITE" && row.told.status >= 300);
  const fromAgent = finals.filter((row) => row.leg === "B" && row.message.direction === "in");
  const same = fromAgent.filter((row) => row.told.status === call.status);
  if (call.reason === "cancelled") return found.find((row) => row.told.method === "CANCEL" && row.told.request) ?? null;
  const silent = ["upstream-silent", "upstream-unreachable"].includes(call.reason);
  if (silent)
    return (
      found.findLast((row) => row.leg === "B" && row.message.direction === "out" && row.told.method === "INVITE" && row.told.request) ??
      null
    );
  return same.at(-1) ?? fromAgent.at(-1) ?? finals.at(-1) ?? null;
}
